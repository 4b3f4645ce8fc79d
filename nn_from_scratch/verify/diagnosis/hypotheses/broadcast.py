"""Sums that are missing or should not be there: the gradient of a broadcast tensor, or one summed away."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

from torch import Tensor

from nn_from_scratch.verify.diagnosis.explanation import Explanation
from nn_from_scratch.verify.diagnosis.problem import Problem, plain

__all__ = ["reduced", "summed_away", "unsummed", "wrong_axes"]

_MOST_AXES = 6


def unsummed(problem: Problem) -> Iterator[Explanation]:
    """More entries than the tensor has; summed over the surplus axes they are right."""
    analytic, shape = problem.analytic, tuple(problem.numeric.shape)
    if problem.same_shape or analytic.dim() > _MOST_AXES or not problem.finite:
        return
    for count in range(1, analytic.dim() + 1):
        for axes in combinations(range(analytic.dim()), count):
            if all(analytic.shape[axis] == 1 for axis in axes):
                continue
            summed = analytic.sum(axes, keepdim=True)
            if summed.numel() != problem.numeric.numel():
                continue
            kept = tuple(size for axis, size in enumerate(analytic.shape) if axis not in axes)
            if _strip(kept) != _strip(shape):
                continue
            words = "axis " + " and ".join(map(str, axes)) if count == 1 else "axes " + ", ".join(map(str, axes))
            yield Explanation(
                "broadcast-not-summed",
                "broadcast",
                f"has the shape {tuple(analytic.shape)}, and would be right if it was summed over {words} "
                f"to {shape}, along which the tensor is broadcast",
                2 + 0.1 * count,
                problem.truth,
                observed=summed.reshape(shape),
                details={"axes": axes},
            )


def _strip(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def summed_away(problem: Problem) -> Iterator[Explanation]:
    """Fewer entries than the tensor has: the true gradient, summed or averaged over axes to be kept."""
    analytic, dims = problem.analytic, problem.numeric.dim()
    if problem.same_shape or dims > _MOST_AXES:
        return
    for count in range(1, dims + 1):
        for axes in combinations(range(dims), count):
            size = math.prod(problem.numeric.shape[axis] for axis in axes)
            if size == 1:
                continue
            total = problem.truth.rearranged(lambda t, axes=axes: t.sum(axes))  # type: ignore[misc]
            if _strip(tuple(total.value.shape)) != _strip(tuple(analytic.shape)):
                continue
            where = " and ".join(problem.axis(axis) for axis in axes)
            for word, factor in (("summed", 1.0), ("averaged", 1.0 / size)):
                yield Explanation(
                    "summed-away",
                    "broadcast",
                    f"has the shape {tuple(analytic.shape)} and is the true one {word} over {where}, "
                    "which should be kept",
                    2 + 0.1 * count,
                    total.scaled(factor),
                    observed=analytic.reshape(total.value.shape),
                    details={"axes": axes, "averaged": word == "averaged"},
                )


def reduced(problem: Problem) -> Iterator[Explanation]:
    """The right shape, but every place along an axis has the sum or the mean of the true entries."""
    dims = problem.numeric.dim()
    if not problem.same_shape or dims > _MOST_AXES:
        return
    long = [axis for axis in range(dims) if problem.numeric.shape[axis] > 1]
    for count in range(1, len(long) + 1):
        for axes in combinations(long, count):
            size = math.prod(problem.numeric.shape[axis] for axis in axes)
            where = " and ".join(problem.axis(axis) for axis in axes)
            total = problem.truth.rearranged(lambda t, axes=axes: t.sum(axes, keepdim=True).expand_as(t))  # type: ignore[misc]
            for word, factor in (("sum", 1.0), ("mean", 1.0 / size)):
                yield Explanation(
                    "reduced",
                    "broadcast",
                    f"has, at every place along {where}, the {word} of the true one over it",
                    3 + 0.1 * count,
                    total.scaled(factor),
                    details={"axes": axes, "averaged": word == "mean"},
                )


def wrong_axes(problem: Problem) -> Iterator[Explanation]:
    """The gradient is the cotangent itself, or its sum over other axes than the true gradient's.

    A bias' gradient sums the cotangent over every axis but its own; with N = C the sum over the wrong axis
    has the right shape.
    """
    cotangent = problem.context.only_cotangent
    if cotangent is None or cotangent.is_complex():
        return
    g = plain(cotangent)
    if g.shape == problem.analytic.shape and problem.same_shape:
        yield Explanation(
            "cotangent-passed-on",
            "cotangent",
            "is the cotangent itself, handed on unchanged",
            2,
            problem.known(g),
        )
    if g.dim() > _MOST_AXES:
        return
    right = [axes for axes in _sums(g, problem.numeric) if _close(g, axes, problem)]
    if not right or not problem.same_shape:
        return
    for axes in _sums(g, problem.numeric):
        if axes not in right:
            yield Explanation(
                "wrong-axis",
                "broadcast",
                f"is the cotangent summed over the axes {axes}, where it should be summed over {right[0]}",
                3,
                problem.truth.replaced(_summed(g, axes, problem.numeric)),
                details={"axes": axes, "right": right[0]},
            )


def _sums(g: Tensor, like: Tensor) -> list[tuple[int, ...]]:
    """The sets of axes that leave the wanted shape when summed over."""
    return [
        axes
        for count in range(1, g.dim() + 1)
        for axes in combinations(range(g.dim()), count)
        if _strip(tuple(size for axis, size in enumerate(g.shape) if axis not in axes)) == _strip(tuple(like.shape))
    ]


def _summed(g: Tensor, axes: tuple[int, ...], like: Tensor) -> Tensor:
    return g.sum(axes).reshape(like.shape)


def _close(g: Tensor, axes: tuple[int, ...], problem: Problem) -> bool:
    return bool(((_summed(g, axes, problem.numeric) - problem.numeric).abs() <= problem.truth.allowed).all())
