"""Sums that are missing or should not be there: the gradient of a broadcast tensor, or one summed away."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import MOST_AXES, PLAIN, SPECIFIC, TIE_BREAK
from nn_from_scratch.verify.diagnosis.explanation import Explanation, hypothesis
from nn_from_scratch.verify.diagnosis.problem import Problem


def _subsets(axes: range | list[int]) -> Iterator[tuple[int, ...]]:
    """All that are not empty, the smallest first; none of more axes than can be tried."""
    for count in range(1, len(axes) + 1) if len(axes) <= MOST_AXES else ():
        yield from combinations(axes, count)


def _without(shape: tuple[int, ...], axes: tuple[int, ...] = ()) -> tuple[int, ...]:
    """What is left of a shape, axes of size 1 left out too."""
    return tuple(size for axis, size in enumerate(shape) if size != 1 and axis not in axes)


@hypothesis("broadcast", simplest=PLAIN, any_shape=True)
def unsummed(problem: Problem) -> Iterator[Explanation]:
    """More entries than the tensor has; summed over the surplus axes they are right."""
    analytic, shape = problem.analytic, tuple(problem.numeric.shape)
    if problem.same_shape:
        return
    for axes in _subsets(range(analytic.dim())):
        if all(analytic.shape[axis] == 1 for axis in axes) or _without(analytic.shape, axes) != _without(shape):
            continue
        words = "axis " + " and ".join(map(str, axes)) if len(axes) == 1 else "axes " + ", ".join(map(str, axes))
        yield Explanation(
            "broadcast-not-summed",
            f"has the shape {tuple(analytic.shape)}, and would be right if it was summed over {words} "
            f"to {shape}, along which the tensor is broadcast",
            PLAIN + TIE_BREAK * len(axes),
            problem.truth,
            observed=analytic.sum(axes).reshape(shape),
            details={"axes": axes},
        )


@hypothesis("broadcast", simplest=PLAIN, any_shape=True)
def summed_away(problem: Problem) -> Iterator[Explanation]:
    """Fewer entries than the tensor has: the true gradient, summed or averaged over axes to be kept."""
    analytic = problem.analytic
    if problem.same_shape:
        return
    for axes, size, where in _reductions(problem):
        if _without(problem.numeric.shape, axes) != _without(analytic.shape):
            continue
        total = problem.truth.rearranged(torch.sum, axes)
        for word, factor in (("summed", 1.0), ("averaged", 1.0 / size)):
            yield Explanation(
                "summed-away",
                f"has the shape {tuple(analytic.shape)} and is the true one {word} over {where}, which should be kept",
                PLAIN + TIE_BREAK * len(axes),
                total.scaled(factor),
                observed=analytic.reshape(total.value.shape),
                details={"axes": axes, "averaged": word == "averaged"},
            )


@hypothesis("broadcast", simplest=SPECIFIC)
def reduced(problem: Problem) -> Iterator[Explanation]:
    """The right shape, but every place along an axis has the sum or the mean of the true entries."""
    for axes, size, where in _reductions(problem):
        total = problem.truth.rearranged(lambda t, over: t.sum(over, keepdim=True).expand_as(t), axes)
        for word, factor in (("sum", 1.0), ("mean", 1.0 / size)):
            claim = f"has, at every place along {where}, the {word} of the true one over it"
            details = {"axes": axes, "averaged": word == "mean"}
            level = SPECIFIC + TIE_BREAK * len(axes)
            yield Explanation("reduced", claim, level, total.scaled(factor), details=details)


def _reductions(problem: Problem) -> Iterator[tuple[tuple[int, ...], int, str]]:
    """Sets of axes of more than one entry, with the number of entries along them, and their names."""
    shape = problem.numeric.shape
    for axes in _subsets([axis for axis, size in enumerate(shape) if size > 1]):
        yield axes, math.prod(shape[axis] for axis in axes), " and ".join(problem.axis(axis) for axis in axes)


@hypothesis("cotangent", simplest=PLAIN)
def passed_on(problem: Problem) -> Iterator[Explanation]:
    """The gradient is the cotangent itself."""
    g = problem.cotangent
    # Where the true gradient is zero, the forward is constant there: see `straight_through`.
    if (
        g is not None
        and g.shape == problem.numeric.shape
        and bool((problem.numeric.abs() > problem.truth.allowed).any())
    ):
        claim = "is the cotangent itself, passed on unchanged"
        yield Explanation("cotangent-passed-on", claim, PLAIN, problem.known(g))


@hypothesis("broadcast", simplest=SPECIFIC)
def wrong_axes(problem: Problem) -> Iterator[Explanation]:
    """The cotangent summed over other axes than those of the true gradient.

    The gradient of a bias sums the cotangent over every axis but its own; with N = C the sum over the wrong axis has
    the right shape.
    """
    g, shape = problem.cotangent, problem.numeric.shape
    if g is None:
        return
    sums: dict[tuple[int, ...], Tensor] = {
        axes: g.sum(axes).reshape(shape)
        for axes in _subsets(range(g.dim()))
        if _without(g.shape, axes) == _without(shape)
    }
    right = [axes for axes, value in sums.items() if ((value - problem.numeric).abs() <= problem.truth.allowed).all()]
    for axes, value in sums.items():
        if right and axes not in right:
            claim = f"is the cotangent summed over the axes {axes}, where it should be summed over {right[0]}"
            details = {"axes": axes, "right": right[0]}
            yield Explanation("wrong-axis", claim, SPECIFIC, problem.truth.replaced(value), details=details)
