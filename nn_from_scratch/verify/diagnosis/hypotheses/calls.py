"""Several calls or several uses: stale records, overwritten accumulation, a missing term."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import HALF_STEP, PLAIN, RECORDED, SPECIFIC
from nn_from_scratch.verify.diagnosis.explanation import Explanation, experiment, hypothesis
from nn_from_scratch.verify.diagnosis.probing import Probes
from nn_from_scratch.verify.diagnosis.problem import Problem, plain


@hypothesis("calls", simplest=PLAIN)
def previous_call(problem: Problem) -> Iterator[Explanation]:
    """The gradient of the previous call, alone or added to the right one."""
    earlier = problem.context.previous_gradient
    if earlier is None or earlier.shape != problem.numeric.shape:
        return
    before = plain(earlier)
    claim = "is that of the previous call: the backward used a stale record"
    yield Explanation("stale-record", claim, PLAIN, problem.known(before))
    claim = "still contains that of the previous call: it was added to, and should have been cleared"
    yield Explanation("not-cleared", claim, SPECIFIC, problem.known(problem.numeric + before))


@hypothesis("calls", simplest=RECORDED, scalable=False)
def accumulated(problem: Problem) -> Iterator[Explanation]:
    """What should have been added to a `.grad` that was not empty."""
    initial = problem.context.initial_grad
    if initial is None or initial.shape != problem.numeric.shape:
        return
    start = plain(initial)
    added = problem.numeric - start
    for kind, value, claim in (
        ("overwritten", added, "overwrites what `.grad` held, where it should be added to it"),
        ("accumulated-twice", start + 2 * added, "is added twice to what `.grad` held"),
        ("not-accumulated", start, "is not added to what `.grad` held"),
        ("accumulated-twice", 2 * start + added, "is added to twice what `.grad` held"),
        ("subtracted", start - added, "is subtracted from what `.grad` held, where it should be added"),
        ("only-previous-doubled", 2 * start, "only doubles what `.grad` held"),
    ):
        yield Explanation(kind, claim, RECORDED, problem.known(value))


@hypothesis("terms", simplest=SPECIFIC, scalable=False)
def missing_term(problem: Problem) -> Iterator[Explanation]:
    """One of the named parts that add up to the gradient is missing, alone, doubled, or of the wrong sign."""
    shape, g = problem.numeric.shape, problem.cotangent
    parts = {name: plain(part) for name, part in problem.context.contributions.items() if part.shape == shape}
    if parts:
        yield from _term_faults(problem, parts)
    elif g is not None and g.shape == shape:
        yield from _term_faults(problem, {"a skip connection (the cotangent itself)": g}, SPECIFIC + HALF_STEP)


@experiment("terms", simplest=SPECIFIC, scalable=False)
def one_output(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """Of several outputs, one is detached, or alone counted."""
    cotangents = problem.context.cotangents
    if len(cotangents) < 2:
        return
    parts: dict[str, Tensor] = {}
    for name in cotangents:
        gradient = probes.true_gradient(
            {key: g if key == name else torch.zeros_like(g) for key, g in cotangents.items()}
        )
        if gradient is not None:
            parts[f"the output {name!r}"] = gradient
    yield from _term_faults(problem, parts)


def _term_faults(problem: Problem, parts: Mapping[str, Tensor], complexity: float = SPECIFIC) -> Iterator[Explanation]:
    """The faults that one part of a sum can have."""
    for name, part in parts.items():
        for kind, value, claim in (
            ("term-missing", problem.numeric - part, f"lacks the contribution of {name}"),
            ("one-term-only", part, f"has the contribution of {name} alone"),
            ("term-doubled", problem.numeric + part, f"counts the contribution of {name} twice"),
            ("term-sign", problem.numeric - 2 * part, f"has the contribution of {name} with the wrong sign"),
        ):
            yield Explanation(kind, claim, complexity, problem.known(value), details={"term": name})


@hypothesis("calls", simplest=PLAIN, any_shape=True)
def mistaken(problem: Problem) -> Iterator[Explanation]:
    """A right gradient in the wrong place: that of another tensor, or of another call."""
    context = problem.context
    order = ": gradients are returned in the wrong order, or one of them twice"
    others = [
        (f"that of {name!r}{order}", tensor, "swapped-gradients")
        for name, tensor in context.numeric_gradients.items()
        if name != context.name
    ]
    others += [(phrase, tensor, "mistaken") for phrase, tensor in context.known_gradients.items()]
    for phrase, tensor, kind in others:
        if tensor.shape == problem.analytic.shape:
            yield Explanation(kind, f"is {phrase}", PLAIN, problem.known(plain(tensor)), details={"of": phrase})


@experiment("calls", simplest=PLAIN, scalable=False, any_shape=True)
def of_another_tensor(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """The right gradient of another tensor."""
    context = problem.context
    for name, tensor in context.tensors.items():
        if name in (context.name, *context.numeric_gradients) or not tensor.is_floating_point():
            continue
        gradient = probes.gradient_of_another(name) if tensor.shape == problem.analytic.shape else None
        if gradient is not None:
            claim = f"is that of {name!r}: gradients are returned in the wrong order, or one of them twice"
            yield Explanation("swapped-gradients", claim, PLAIN, problem.known(gradient), details={"of": name})
