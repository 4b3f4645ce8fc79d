"""One call of torch inside a composed forward has the wrong derivative, and all the rest is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import COMPOUND, HALF_STEP, MOST_CALLS, SPECIFIC, TIE_BREAK
from nn_from_scratch.verify.diagnosis.explanation import Explanation, experiment
from nn_from_scratch.verify.diagnosis.families.operation import scale_gradient
from nn_from_scratch.verify.diagnosis.families.softmax import SOFTMAX_FAULTS, right_softmax
from nn_from_scratch.verify.diagnosis.probing import Probes
from nn_from_scratch.verify.diagnosis.problem import Problem
from nn_from_scratch.verify.diagnosis.replay import Call, Surrogate

_OF_THE_OUTPUT: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
    "exp": lambda y: y,
    "sqrt": lambda y: 0.5 / y,
    "reciprocal": lambda y: -y * y,
}
"""Derivatives in terms of the output."""

_PRODUCTS = ("matmul", "mm", "bmm", "linear", "rmatmul")

_Candidate = tuple[str, str, Surrogate, float]
"""Kind, claim, the derivative that it stands for, and complexity."""


@experiment("path", simplest=SPECIFIC + HALF_STEP, scalable=False)
def wrong_call(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """Each call of the forward with each of its usual faults."""
    calls, name = probes.calls, problem.context.name
    if name is None or len(calls) > MOST_CALLS:
        return
    described = [call.describe for call in calls]
    paths: list[tuple[Tensor, Explanation, bool]] = []
    # From the output on: of calls in a row, the last is closest to what the user sees.
    for index in reversed(range(len(calls))):
        call, label = calls[index], described[index]
        if described.count(label) > 1:
            which = described[: index + 1].count(label)
            label = f"{label}, call {which} of {described.count(label)}"
        # The derivative of a forward of a single call is a matter of the other hypotheses, but for its options.
        candidates = _options(call, label)
        if len(calls) > 1:
            candidates = chain(candidates, _candidates(call, label, calls))
        for kind, claim, surrogate, level in candidates:
            if probes.exhausted:
                return
            gradient = probes.with_derivative(index, surrogate)
            if gradient is None or gradient.shape != problem.numeric.shape:
                continue
            details = {"call": call.describe}
            found = Explanation(kind, claim, level, problem.truth.replaced(gradient), details=details)
            if kind == "path-missing":
                paths.append((gradient, found, f" {name} in " in claim))
            else:
                yield found
    # Of calls in a row, none has anything come through without the others. One that has the tensor itself says most.
    for path in paths:
        same = [other for other in paths if torch.equal(other[0], path[0])]
        if path is next((other for other in same if other[2]), same[0]):
            yield path[1]


def _candidates(call: Call, label: str, calls: list[Call]) -> Iterator[_Candidate]:
    varying = [i for i, t in enumerate(call.tensors) if t.requires_grad]
    for i in varying:
        word = call.words[i]
        argument = label if len(varying) == 1 else f"{word} in {label}"
        one = SPECIFIC + HALF_STEP
        yield "path-missing", f"lacks what comes through {argument}, as if it was constant", _scaled(i, 0.0), one
        claim = f"has the wrong sign in what comes through {argument}"
        yield "path-sign", claim, _scaled(i, -1.0), one + TIE_BREAK
        if len(call.tensors) == 1:
            claim = f"lacks the derivative of {label}: the cotangent passes through unchanged"
        else:
            others = " and ".join(call.words[j] for j in range(len(call.tensors)) if j != i)
            claim = f"lacks the derivative of {label} with respect to {word}, which depends on {others}"
        yield "derivative-missing", claim, _passed(i), one + TIE_BREAK
    if len(call.tensors) == 1 and varying:
        yield from _of_one_entry(call, label)
    if call.name == "softmax" and varying == [0]:
        yield from _of_softmax(call, label)
    if call.name in _PRODUCTS and len(call.tensors) >= 2:
        yield from _of_products(call, label, calls, [i for i in varying if i < 2])


def _options(call: Call, label: str) -> Iterator[_Candidate]:
    """Options of the call left at their defaults, and those that are on or off turned round."""
    for option, given, default in call.options():
        others = [default] if given != default else [not given] if isinstance(given, bool) else []
        for other in others:
            words = "forgets" if other == default else "has not"
            claim = f"{words} {option}={given!r} of {label}: it is that of {option}={other!r}"

            def surrogate(call: Call, option: str = option, other: object = other) -> Tensor:
                return call.with_option(option, other)

            yield "option-forgotten", claim, surrogate, SPECIFIC + HALF_STEP


def _scaled(i: int, factor: float) -> Surrogate:
    """What comes through one argument is scaled on the way back."""
    return lambda call: call.again(*(scale_gradient(t, factor) if k == i else t for k, t in enumerate(call.tensors)))


def _passed(i: int) -> Surrogate:
    """The cotangent goes to one argument as it is; what the others get is right."""

    def surrogate(call: Call) -> Tensor:
        others = call.again(*(t.detach() if k == i else t for k, t in enumerate(call.tensors)))
        if others.shape != call.tensors[i].shape:
            raise ValueError("the cotangent does not have the argument's shape")
        return others + (call.tensors[i] - call.tensors[i].detach())

    return surrogate


def _of_one_entry(call: Call, label: str) -> Iterator[_Candidate]:
    """Functions of one entry: their derivative at another place, or another formula of it."""

    def times(slope: Callable[[Call, Tensor], Tensor]) -> Surrogate:
        def surrogate(call: Call) -> Tensor:
            x = call.tensors[0]
            return x * slope(call, x.detach()).detach()

        return surrogate

    def at(point: Callable[[Tensor, Tensor], Tensor]) -> Surrogate:
        def slope(call: Call, x: Tensor) -> Tensor:
            leaf = point(x, call.again(x)).detach().requires_grad_()
            return torch.autograd.grad(call.again(leaf).sum(), leaf)[0]

        return times(slope)

    level = COMPOUND
    claim = f"evaluates the derivative of {label} at its output, where it should be evaluated at its input"
    yield "derivative-at-output", claim, at(lambda x, y: y), level
    claim = f"takes the derivative of {label} at minus its input: a mask or a comparison is inverted"
    yield "mask-inverted", claim, at(lambda x, y: -x), level
    claim = f"multiplies by the value of {label}, where it should multiply by the derivative"
    yield "value-for-derivative", claim, times(lambda call, x: call.again(x)), level
    if call.name in _OF_THE_OUTPUT:
        form = _OF_THE_OUTPUT[call.name]
        claim = f"takes the input of {label} for its output, in the derivative's form in terms of the output"
        yield "output-form-at-input", claim, times(lambda call, x: form(x)), level


def _of_softmax(call: Call, label: str) -> Iterator[_Candidate]:
    """The usual faults of softmax's derivative; over its last axis, or another one."""
    y = call.output.detach()
    # The axis along which it adds up to one.
    axes = [d for d in range(y.dim()) if torch.allclose(y.sum(d), torch.ones(()).to(y))]
    if len(axes) != 1:
        return
    (axis,) = axes

    def surrogate(formula: Callable[[Tensor, Tensor, int], Tensor], over: int) -> Surrogate:
        def other(call: Call) -> Tensor:
            x = call.tensors[0].view_as(call.tensors[0])
            x.register_hook(lambda g: formula(y, g, over))  # type: ignore[no-untyped-call]
            return x

        return other

    for kind, claim, formula in SOFTMAX_FAULTS:
        yield kind, f"{claim}, in {label}", surrogate(formula, axis), COMPOUND
    for other in range(y.dim()):
        if other != axis and y.shape[other] > 1:
            claim = f"sums over axis {other} in the derivative of {label}, where it should sum over axis {axis}"
            yield "wrong-axis", claim, surrogate(right_softmax, other), COMPOUND


def _of_products(call: Call, label: str, calls: list[Call], varying: list[int]) -> Iterator[_Candidate]:
    """A product of matrices whose derivative takes another tensor, or one that is not turned."""
    for i in varying:
        factor, word = call.tensors[1 - i], call.words[1 - i]
        if factor.dim() >= 2 and factor.shape[-1] == factor.shape[-2] > 1:
            claim = f"uses {word} with its last two axes exchanged in the derivative of {label}"
            yield "operand-transposed", claim, _with_factor(i, factor.mT), COMPOUND
        for other, tensor in _named_tensors(calls).items():
            if tensor.shape == factor.shape and other != word and not torch.equal(tensor, factor):
                claim = f"uses {other} where it should use {word} in the derivative of {label}"
                yield "operand-mistaken", claim, _with_factor(i, tensor), COMPOUND + HALF_STEP


def _named_tensors(calls: list[Call]) -> dict[str, Tensor]:
    """The operands and results of all calls, by their descriptions, where those are unambiguous."""
    found: dict[str, Tensor] = {}
    unclear: set[str] = set()
    for call in calls:
        for word, tensor in (*zip(call.words, call.tensors, strict=True), (call.describe, call.output)):
            if word in found and not torch.equal(found[word], tensor):
                unclear.add(word)
            found[word] = tensor
    return {word: tensor for word, tensor in found.items() if word not in unclear and word != "…"}


def _with_factor(i: int, factor: Tensor) -> Surrogate:
    """The derivative with respect to argument i of two, with another tensor in place of the other argument."""

    def surrogate(call: Call) -> Tensor:
        first = call.tensors[i]
        right = call.again(*(t.detach() if k == i else t for k, t in enumerate(call.tensors)))
        wrong = call.again(
            *(first if k == i else factor.detach() if k == 1 - i else t.detach() for k, t in enumerate(call.tensors))
        )
        return right + (wrong - wrong.detach())

    return surrogate
