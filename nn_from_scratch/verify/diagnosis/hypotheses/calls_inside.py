"""One call of torch inside a composed forward has the wrong derivative, and all the rest is right."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.call_faults import faults_of, neighbors_of
from nn_from_scratch.verify.diagnosis.constants import COMPOUND, HALF_STEP, MOST_CALLS, SPECIFIC, TIE_BREAK
from nn_from_scratch.verify.diagnosis.explanation import Explanation, experiment
from nn_from_scratch.verify.diagnosis.probing import Probes
from nn_from_scratch.verify.diagnosis.problem import Problem
from nn_from_scratch.verify.diagnosis.replay import Call, Surrogate


@experiment("path", simplest=SPECIFIC + HALF_STEP, scalable=False)
def wrong_call(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """Each call of the forward with each of its usual faults."""
    paths: list[tuple[Tensor, Explanation, bool]] = []
    for index, call, label in _labeled(probes):
        for kind, claim, surrogate, level in faults_of(call, label, probes.calls):
            gradient = _with(problem, probes, index, surrogate)
            if gradient is None:
                continue
            details = {"call": call.describe}
            found = Explanation(kind, claim, level, problem.truth.replaced(gradient), details=details)
            if kind == "path-missing":
                paths.append((gradient, found, f" {problem.context.name} in " in claim))
            else:
                yield found
    # Of calls in a row, none has anything come through without the others. One that has the tensor itself says most.
    for path in paths:
        same = [other for other in paths if torch.equal(other[0], path[0])]
        if path is next((other for other in same if other[2]), same[0]):
            yield path[1]


@experiment("path", simplest=COMPOUND + HALF_STEP, scalable=False)
def wrong_function(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """Each call of a function of one entry with the derivative of another such function."""
    for index, call, label in _labeled(probes):
        for kind, claim, surrogate, level in neighbors_of(call, label):
            gradient = _with(problem, probes, index, surrogate)
            if gradient is not None:
                prediction, details = problem.truth.replaced(gradient), {"call": call.describe}
                yield Explanation(kind, claim, level, prediction, details=details)


@experiment("path", simplest=COMPOUND + HALF_STEP, scalable=False)
def call_left_out(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """The right gradient of a forward without one of its calls, such as a division by a temperature."""
    for index, call, label in _labeled(probes):
        for i, tensor in enumerate(call.tensors):
            if not tensor.requires_grad or tensor.shape != call.output.shape or len(probes.calls) < 2:
                continue
            gradient = _with(problem, probes, index, lambda call, i=i: call.tensors[i], instead=True)  # type: ignore[misc]
            if gradient is not None:
                claim = f"is that of the forward without {label}, with {call.words[i]} in its place"
                level, prediction = COMPOUND + HALF_STEP + TIE_BREAK, problem.truth.replaced(gradient)
                yield Explanation("call-left-out", claim, level, prediction, details={"call": call.describe})


def _labeled(probes: Probes) -> Iterator[tuple[int, Call, str]]:
    """The calls with their places and labels, from the output on: the last of some in a row is closest to the user."""
    calls = probes.calls
    described = [call.describe for call in calls]
    for index in reversed(range(len(calls) if len(calls) <= MOST_CALLS else 0)):
        label = described[index]
        if described.count(label) > 1:
            label += f", call {described[: index + 1].count(label)} of {described.count(label)}"
        yield index, calls[index], label


def _with(
    problem: Problem, probes: Probes, index: int, surrogate: Surrogate, *, instead: bool = False
) -> Tensor | None:
    gradient = None if probes.exhausted else probes.with_derivative(index, surrogate, instead=instead)
    if gradient is None or gradient.shape != problem.numeric.shape or not bool(gradient.isfinite().all()):
        return None
    return gradient


@experiment("path", simplest=COMPOUND + HALF_STEP)
def forward_applied(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """A linear map, such as a rotation or a permutation, where the cotangent should go through its transpose.

    A factor that is not transposed, or a kernel that is not turned round, says more of a product or a convolution.
    """
    if problem.unary is None or problem.unary[1].shape != problem.unary[2].shape:
        return
    value = probes.output_at({problem.unary[0]: problem.unary[2]})
    if value is not None and value.shape == problem.numeric.shape:
        claim = "is the forward applied to the cotangent, where its transpose, or inverse, should be"
        prediction = problem.truth.replaced(value)
        yield Explanation("forward-applied", claim, COMPOUND + HALF_STEP, prediction)
