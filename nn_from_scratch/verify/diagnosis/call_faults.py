"""The usual faults of the derivative of one call of torch: what stands for each, and how a sentence calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import COMPOUND, HALF_STEP, SPECIFIC, TIE_BREAK
from nn_from_scratch.verify.diagnosis.families.elementwise import FUNCTIONS
from nn_from_scratch.verify.diagnosis.families.operation import scale_gradient
from nn_from_scratch.verify.diagnosis.families.softmax import SOFTMAX_FAULTS, right_softmax
from nn_from_scratch.verify.diagnosis.replay import Call, Surrogate

_OF_THE_OUTPUT: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
    "exp": lambda y: y,
    "sqrt": lambda y: 0.5 / y,
    "reciprocal": lambda y: -y * y,
}
"""Derivatives in terms of the output."""

SIGMOID_LIKE = ("silu", "gelu", "mish")
_PRODUCTS = ("matmul", "mm", "bmm", "linear", "rmatmul")

_Candidate = tuple[str, str, Surrogate, float]
"""Kind, claim, the derivative that it stands for, and complexity."""


def faults_of(call: Call, label: str, calls: list[Call]) -> Iterator[_Candidate]:
    """The usual faults of the derivative of one call.

    Args:
        label: How a sentence calls it.
        calls: All of the forward. The derivative of a forward of a single call is mostly a matter of other hypotheses.
    """
    yield from _options(call, label)
    varying = [i for i, t in enumerate(call.tensors) if t.requires_grad]
    if len(call.tensors) == 1 and varying:
        yield from _of_one_entry(call, label)
    if len(calls) > 1 and varying:
        yield from _of_arguments(call, label, calls, varying)


def _of_arguments(call: Call, label: str, calls: list[Call], varying: list[int]) -> Iterator[_Candidate]:
    for i in varying:
        word = call.words[i]
        argument = label if len(varying) == 1 else f"{word} in {label}"
        one = SPECIFIC + HALF_STEP
        yield (
            "path-missing",
            f"lacks what comes through {argument}, as if it was constant",
            _scaled(i, 0.0),
            one + TIE_BREAK,
        )
        claim = f"has the wrong sign in what comes through {argument}"
        yield "path-sign", claim, _scaled(i, -1.0), one + TIE_BREAK
        if len(call.tensors) == 1:
            claim = f"lacks the derivative of {label}: the cotangent passes through unchanged"
        else:
            others = " and ".join(call.words[j] for j in range(len(call.tensors)) if j != i)
            claim = f"lacks the derivative of {label} with respect to {word}, which depends on {others}"
        yield "derivative-missing", claim, _passed(i), one + TIE_BREAK
    if call.name == "where" and isinstance(call.arguments[0], Tensor):
        claim = f"has the two cases of {label} exchanged: the mask is inverted"
        yield "mask-inverted", claim, lambda call: call.with_first(~call.arguments[0]), COMPOUND
    if call.name == "softmax" and varying == [0]:
        yield from _of_softmax(call, label)
    if call.name in _PRODUCTS and len(call.tensors) >= 2:
        yield from _of_products(call, label, calls, [i for i in varying if i < 2])


def _options(call: Call, label: str) -> Iterator[_Candidate]:
    """Options of the call left at their defaults, and those that are on or off turned round."""
    for option, given, default in call.options():
        others = [default]
        if not isinstance(given, Tensor) and given == default:
            others = [not given] if isinstance(given, bool) else []
        for other in others:
            value = f"{option}={'a tensor' if isinstance(given, Tensor) else repr(given)}"
            claim = f"forgets {value} of {label}"
            if other != default:
                claim = f"has {option}={other!r} in {label}, where the forward has {value}"

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
        one = call.tensors[i].expand_as(others)  # a broadcast argument gets the sum
        return others + (one - one.detach())

    return surrogate


def neighbors_of(call: Call, label: str) -> Iterator[_Candidate]:
    """The derivatives of other functions of one entry, for a call of one."""
    if len(call.tensors) != 1 or not call.tensors[0].requires_grad or call.output.shape != call.tensors[0].shape:
        return
    for other, function in FUNCTIONS.items():

        def slope(call: Call, x: Tensor, function: Callable[[Tensor], Tensor] = function) -> Tensor:
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(function(leaf).sum(), leaf)[0]

        claim = f"has the derivative of {other} in place of that of {label}"
        yield "neighbor", claim, _times(slope), COMPOUND + HALF_STEP


def _from_cotangent(call: Call) -> Tensor:
    """The derivative at the cotangent that arrives, times that cotangent."""

    def formula(g: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = g.detach().clone().requires_grad_()
            return g * torch.autograd.grad(call.again(leaf).sum(), leaf)[0]

    x = call.tensors[0].view_as(call.tensors[0])
    x.register_hook(formula)  # type: ignore[no-untyped-call]
    return x


def _times(slope: Callable[[Call, Tensor], Tensor]) -> Surrogate:
    """The cotangent times a slope, of the call and its input, for functions of one entry."""
    return lambda call: call.tensors[0] * slope(call, call.tensors[0].detach()).detach()


def _of_one_entry(call: Call, label: str) -> Iterator[_Candidate]:
    """Functions of one entry: their derivative at another place, or another formula of it."""

    def at(point: Callable[[Tensor, Tensor], Tensor]) -> Surrogate:
        def slope(call: Call, x: Tensor) -> Tensor:
            leaf = point(x, call.again(x)).detach().requires_grad_()
            return torch.autograd.grad(call.again(leaf).sum(), leaf)[0]

        return _times(slope)

    def complement(call: Call, x: Tensor) -> Tensor:
        leaf = x.detach().requires_grad_()
        return 1 - torch.autograd.grad(call.again(leaf).sum(), leaf)[0]

    if call.output.shape != call.tensors[0].shape:
        return
    level = COMPOUND
    claim = f"has the mask of {label} inverted: 1 - m where m should be"
    yield "mask-inverted", claim, _times(complement), level
    claim = f"takes the derivative, or the mask, of {label} from the cotangent, where it should be taken from the input"
    yield "mask-from-cotangent", claim, _from_cotangent, level
    if call.name in SIGMOID_LIKE:
        claim = f"has the factor s(x) of {label} = x·s(x) alone, and lacks the term x·s'(x)"
        yield "product-term-missing", claim, _times(lambda call, x: call.again(x) / x), level
    claim = f"evaluates the derivative of {label} at its output, where it should be evaluated at its input"
    yield "derivative-at-output", claim, at(lambda x, y: y), level
    claim = f"takes the derivative of {label} at minus its input: a mask or a comparison is inverted"
    yield "mask-inverted", claim, at(lambda x, y: -x), level
    claim = f"multiplies by the value of {label}, where it should multiply by the derivative"
    yield "value-for-derivative", claim, _times(lambda call, x: call.again(x)), level
    if call.name in _OF_THE_OUTPUT:
        form = _OF_THE_OUTPUT[call.name]
        claim = f"takes the input of {label} for its output, in the derivative's form in terms of the output"
        yield "output-form-at-input", claim, _times(lambda call, x: form(x)), level


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
            yield "operand-transposed", claim, _with_factor(i, factor.mT), COMPOUND + TIE_BREAK
        for other, tensor in _named_tensors(calls):
            if tensor.numel() == factor.numel() and tensor.shape != factor.shape and tensor.dim() > 1:
                claim = f"uses {other}, reshaped and not permuted, as {word} in the derivative of {label}"
                yield "operand-reshaped", claim, _with_factor(i, tensor.reshape(factor.shape)), COMPOUND + HALF_STEP
            if tensor.shape == factor.shape and other != word and not torch.equal(tensor, factor):
                claim = f"uses {other} where it should use {word} in the derivative of {label}"
                yield "operand-mistaken", claim, _with_factor(i, tensor), COMPOUND + HALF_STEP


def _named_tensors(calls: list[Call]) -> list[tuple[str, Tensor]]:
    """The operands and results of all calls with their descriptions, where these are unambiguous for a shape."""
    found: dict[tuple[str, torch.Size], Tensor] = {}
    unclear: set[tuple[str, torch.Size]] = set()
    for call in calls:
        for word, tensor in (*zip(call.words, call.tensors, strict=True), (call.describe, call.output)):
            key = (word, tensor.shape)
            if key in found and not torch.equal(found[key], tensor):
                unclear.add(key)
            found[key] = tensor
    return [(key[0], tensor) for key, tensor in found.items() if key not in unclear and key[0] != "…"]


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
