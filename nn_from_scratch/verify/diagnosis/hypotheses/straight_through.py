"""The forward is piecewise constant, its true gradient is zero, and the backward passes on that of another function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import FEWEST_EACH_SIDE, PLAIN, ROUNDING, SPECIFIC, TIE_BREAK, TINY
from nn_from_scratch.verify.diagnosis.explanation import Explanation, hypothesis
from nn_from_scratch.verify.diagnosis.problem import Problem, UncertainTensor, plain

_SLOPES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda x: 1 - torch.tanh(x) ** 2,
    "sigmoid": lambda x: torch.sigmoid(x) * (1 - torch.sigmoid(x)),
    "arctan": lambda x: 1 / (1 + x * x),
    "softsign": lambda x: 1 / (1 + x.abs()) ** 2,
}
"""Derivatives of the functions that stand in for a step: the usual surrogate gradients."""

_STEPS = "the forward is piecewise constant and its true gradient is zero; this is "


@hypothesis("straight-through", simplest=PLAIN, scalable=False)
def straight_through(problem: Problem) -> Iterator[Explanation]:
    """The gradient of the identity, scaled or inside a band alone, or of a smooth step, where the true one is zero."""
    g = problem.cotangent
    if g is None or g.shape != problem.numeric.shape or bool((problem.numeric.abs() > problem.truth.allowed).any()):
        return
    name, context = problem.context.name, problem.context
    x = plain(context.tensors[name]) if name is not None and name in context.tensors else None
    slopes: list[tuple[str, Tensor]] = [("that of the identity", torch.ones_like(g))]
    if x is not None and x.shape == g.shape:
        slopes += [(f"that of {label}", slope(x)) for label, slope in _SLOPES.items()]
        band = _band(problem.analytic != 0, x, str(name))
        if band is not None:
            slopes.append((f"that of the identity where {band[0]}, and zero elsewhere", band[1]))
    for label, slope in slopes:
        for words, factor in _multiples(problem.analytic, slope * g):
            level = (PLAIN if label == "that of the identity" else SPECIFIC) + (TIE_BREAK if words else 0.0)
            yield Explanation(
                "straight-through",
                f"is no derivative: {_STEPS}{words}{label}, a straight-through estimator (if that is intended, declare "
                f"the function whose derivative it is: {_declaration(words + label)})",
                level,
                UncertainTensor(factor * slope * g, problem.truth.allowed + ROUNDING * (factor * slope * g).abs()),
                # Two bounds of the band, and the multiple.
                fitted=(2 if "elsewhere" in label else 0) + (1 if words else 0),
                details={"factor": factor},
            )


def _declaration(label: str) -> str:
    return "surrogate=lambda x: x" if label == "that of the identity" else "surrogate="


def _multiples(analytic: Tensor, right: Tensor) -> Iterator[tuple[str, float]]:
    yield "", 1.0
    power = float((right * right).sum())
    if power > TINY:
        factor = float((analytic * right).sum()) / power
        if factor not in (0.0, 1.0):
            yield f"{factor:.6g} times ", factor


def _band(inside: Tensor, x: Tensor, name: str) -> tuple[str, Tensor] | None:
    """The band of x in which the gradient is not zero, by its bounds; None if there is none.

    Where both ends are about equally far from zero they are one bound, that of a clipping to a magnitude.
    """
    within, without = x[inside], x[~inside]
    if min(within.numel(), without.numel()) < FEWEST_EACH_SIDE:
        return None
    below, above = without[without < within.min()], without[without > within.max()]
    if below.numel() + above.numel() < without.numel():
        return None
    if below.numel() and above.numel():
        reach, next_one = float(within.abs().max()), float(without.abs().min())
        words = f"|{name}| is at most about {_between(reach, next_one)}"
        if reach >= next_one:
            ends = (below.max(), within.min()), (within.max(), above.min())
            low, high = (_between(float(a), float(b)) for a, b in ends)
            words = f"{name} is between about {low} and {high}"
    elif above.numel():
        words = f"{name} is at most about {_between(float(within.max()), float(above.min()))}"
    else:
        words = f"{name} is at least about {_between(float(below.max()), float(within.min()))}"
    return words, inside.to(x)


def _between(low: float, high: float) -> str:
    """The number of the fewest digits between two."""
    for digits in range(1, 8):
        middle = f"{(low + high) / 2:.{digits}g}"
        if low <= float(middle) <= high:
            break
    return middle
