"""The right values in wrong places: axes exchanged, flipped, rolled, shifted, reshaped, slices reordered."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.explanation import Explanation
from nn_from_scratch.verify.diagnosis.problem import Estimate, Problem

__all__ = ["flipped", "permuted", "reordered", "reshaped", "rolled", "shifted"]

_MOST_AXES = 5
_MOST_SLICES = 512


def _axes_words(problem: Problem, axes: tuple[int, ...]) -> str:
    names = [problem.axis(axis) for axis in axes]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _long_axes(tensor: Tensor) -> list[int]:
    return [axis for axis, size in enumerate(tensor.shape) if size > 1]


def permuted(problem: Problem) -> Iterator[Explanation]:
    """Axes exchanged or permuted, also with the flipped kernel that often goes with it."""
    dims = problem.numeric.dim()
    if not 2 <= dims <= _MOST_AXES or not problem.same_values:
        return
    for order in permutations(range(dims)):
        moved_axes = [axis for axis in range(dims) if order[axis] != axis]
        # An axis of one entry can go anywhere: only the simplest way to say it is wanted.
        if not moved_axes or tuple(problem.numeric.shape[a] for a in order) != tuple(problem.analytic.shape):
            continue
        moved = problem.truth.rearranged(lambda t, order=order: t.permute(order))  # type: ignore[misc]
        if len(moved_axes) == 2:
            claim = f"has {_axes_words(problem, tuple(moved_axes))} exchanged"
            kind, steps = "transposed", 2.0
            if dims >= 4 and moved_axes == [0, 1] and problem.context.role == "parameter":
                claim += ", the input and output channels"
                kind = "channels-swapped"
        else:
            claim = f"has its axes permuted to the order {order}"
            kind, steps = "permuted", 3.0
        if not problem.same_shape:
            claim += f" and so the shape {tuple(problem.analytic.shape)}, not {tuple(problem.numeric.shape)}"
        yield Explanation(kind, "layout", claim, steps, moved, details={"order": order})
        spatial = tuple(a for a in problem.spatial_axes if moved.value.shape[a] > 1)
        if spatial:
            yield Explanation(
                kind,
                "layout",
                f"{claim}, and is flipped along {_axes_words(problem, spatial)}",
                steps + 2,
                moved.rearranged(lambda t, spatial=spatial: t.flip(spatial)),  # type: ignore[misc]
                details={"order": order, "flipped": spatial},
            )


def flipped(problem: Problem) -> Iterator[Explanation]:
    """Reversed along one or more axes, such as a kernel that is correlated where it should be convolved."""
    if not problem.same_shape or not problem.same_values:
        return
    long = _long_axes(problem.numeric)[:_MOST_AXES]
    for count in range(1, len(long) + 1):
        for axes in combinations(long, count):
            kernel = problem.context.role == "parameter" and set(axes) <= set(problem.spatial_axes)
            yield Explanation(
                "flipped",
                "layout",
                f"is flipped along {_axes_words(problem, axes)}" + (", a kernel turned round" if kernel else ""),
                2 if set(axes) <= set(problem.spatial_axes) or count == 1 else 3,
                problem.truth.rearranged(lambda t, axes=axes: t.flip(axes)),  # type: ignore[misc]
                details={"axes": axes},
            )


def rolled(problem: Problem) -> Iterator[Explanation]:
    """Rolled along an axis, or by one along two: what leaves at one end comes in at the other."""
    if not problem.same_shape or not problem.same_values:
        return
    long = _long_axes(problem.numeric)
    steps = [((axis,), (step,)) for axis in long for step in range(1, min(problem.numeric.shape[axis], 65))]
    pairs = [
        (axes, step)
        for axes in combinations(long, 2)
        for step in ((1, 1), (-1, -1), (1, -1), (-1, 1))
        # Of two entries, +1 and -1 are the same.
        if not any(by < 0 and problem.numeric.shape[axis] == 2 for axis, by in zip(axes, step, strict=True))
    ]
    for axes, by in [*steps, *pairs]:
        short = tuple(
            b - problem.numeric.shape[a] if 2 * b > problem.numeric.shape[a] else b
            for a, b in zip(axes, by, strict=True)
        )
        yield Explanation(
            "rolled",
            "layout",
            f"is rolled by {_steps_words(short)} along {_axes_words(problem, axes)}",
            2 if max(map(abs, short)) == 1 else 3,
            problem.truth.rearranged(lambda t, axes=axes, by=by: t.roll(by, axes)),  # type: ignore[misc]
            details={"axes": axes, "steps": short},
        )


def shifted(problem: Problem) -> Iterator[Explanation]:
    """Shifted along one or two axes, with zeros or anything else where nothing was shifted to."""
    if not problem.same_shape or not problem.finite:
        return
    long = [axis for axis in _long_axes(problem.numeric) if problem.numeric.shape[axis] > 2]
    ranges = {axis: _steps(problem.numeric.shape[axis]) for axis in long}
    moves: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    moves += [((axis,), (step,)) for axis in long for step in ranges[axis]]
    moves += [
        ((a, b), (i, j)) for a, b in combinations(long, 2) for i in ranges[a] for j in ranges[b] if abs(i) == abs(j)
    ]
    for axes, by in moves:
        empty = torch.zeros(problem.numeric.shape, dtype=torch.bool)
        for axis, step in zip(axes, by, strict=True):
            start = 0 if step > 0 else problem.numeric.shape[axis] + step
            empty.narrow(axis, start, abs(step)).fill_(True)
        moved = problem.truth.rearranged(lambda t, axes=axes, by=by: t.roll(by, axes))  # type: ignore[misc]
        words = f"is shifted by {_steps_words(by)} along {_axes_words(problem, axes)}"
        simple = 3 if max(map(abs, by)) == 1 else 4
        filled = Estimate(moved.value.masked_fill(empty, 0.0), moved.allowed)
        details = {"axes": axes, "steps": by}
        yield Explanation("shifted", "layout", words + ", with zeros shifted in", simple, filled, details=details)
        if 2 * int(empty.sum()) <= empty.numel():
            yield Explanation("shifted", "layout", words, simple + 2, moved, speaks=~empty, details=details)


def reshaped(problem: Problem) -> Iterator[Explanation]:
    """The values in memory order under another shape: `reshape` where axes should have been permuted."""
    if not problem.same_values:
        return
    shape, dims = problem.analytic.shape, problem.numeric.dim()
    if not problem.same_shape:
        yield Explanation(
            "reshaped",
            "layout",
            f"has the right values in the right order, and the shape {tuple(shape)} where it should have "
            f"{tuple(problem.numeric.shape)}",
            2,
            problem.truth.rearranged(lambda t: t.reshape(shape)),
        )
    if not 2 <= dims <= _MOST_AXES:
        return
    for order in permutations(range(dims)):
        turned = tuple(problem.numeric.shape[axis] for axis in order)
        if order == tuple(range(dims)) or turned == tuple(shape):
            continue
        yield Explanation(
            "reshaped",
            "layout",
            f"has its entries scrambled, as if reshaped from {turned} to {tuple(shape)} where its axes "
            "should have been permuted back",
            4,
            problem.truth.rearranged(lambda t, order=order: t.permute(order).reshape(shape)),  # type: ignore[misc]
            details={"order": order},
        )


def reordered(problem: Problem) -> Iterator[Explanation]:
    """Whole slices along one axis in another order: an inverse permutation, gates exchanged."""
    if not problem.same_shape or not problem.same_values:
        return
    for axis in _long_axes(problem.numeric):
        size = problem.numeric.shape[axis]
        if not 3 <= size <= _MOST_SLICES or problem.numeric.numel() < 2 * size:
            continue
        ours = problem.analytic.movedim(axis, 0).reshape(size, -1)
        theirs = problem.numeric.movedim(axis, 0).reshape(size, -1)
        source = torch.cdist(ours, theirs, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
        if len(set(source.tolist())) == size:
            yield Explanation(
                "reordered",
                "layout",
                f"has the right slices along {problem.axis(axis)} in the wrong order",
                5,
                problem.truth.rearranged(lambda t, axis=axis, source=source: t.index_select(axis, source)),  # type: ignore[misc]
                scalable=False,
                details={"axis": axis, "source": tuple(source.tolist())},
            )


def _steps(size: int) -> list[int]:
    return [step for length in range(1, min(4, size - 1)) for step in (length, -length)]


def _steps_words(steps: tuple[int, ...]) -> str:
    return " and ".join(f"{step:+d}" for step in steps) if len(set(steps)) > 1 else f"{steps[0]:+d}"
