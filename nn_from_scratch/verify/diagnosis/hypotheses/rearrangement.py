"""The right values in wrong places: axes exchanged, flipped, rolled, shifted, reshaped, slices reordered."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import (
    COMPOUND,
    FITTED,
    HALF_STEP,
    LONGEST_SHIFT,
    MOST_AXES,
    MOST_LISTED,
    MOST_SLICES,
    MOST_STEPS,
    PLAIN,
    SECOND_FAULT,
    SPECIFIC,
)
from nn_from_scratch.verify.diagnosis.explanation import Explanation, hypothesis
from nn_from_scratch.verify.diagnosis.problem import Problem, UncertainTensor

Axes = tuple[int, ...]


def _axes_words(problem: Problem, axes: Axes) -> str:
    names = [problem.axis(axis) for axis in axes]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _long_axes(tensor: Tensor) -> list[int]:
    return [axis for axis, size in enumerate(tensor.shape) if size > 1]


@hypothesis("layout", simplest=PLAIN, any_shape=True)
def permuted(problem: Problem) -> Iterator[Explanation]:
    """Axes exchanged or permuted, also with the flipped kernel that often goes with it."""
    dims = problem.numeric.dim()
    if not 2 <= dims <= MOST_AXES or not problem.same_values:
        return
    for order in permutations(range(dims)):
        changed = [axis for axis in range(dims) if order[axis] != axis]
        if not changed or tuple(problem.numeric.shape[a] for a in order) != tuple(problem.analytic.shape):
            continue
        moved = problem.truth.rearranged(torch.permute, order)
        if len(changed) == 2:
            claim = f"has {_axes_words(problem, tuple(changed))} exchanged"
            kind, level = "transposed", PLAIN
            if changed == [0, 1] and problem.is_kernel:
                claim += ", the input and output channels"
                kind = "channels-swapped"
        else:
            claim = f"has its axes permuted to the order {order}"
            kind, level = "permuted", SPECIFIC
        if not problem.same_shape:
            claim += f" and so the shape {tuple(problem.analytic.shape)}, not {tuple(problem.numeric.shape)}"
        yield Explanation(kind, claim, level, moved, details={"order": order})
        spatial = tuple(a for a in problem.spatial_axes if moved.value.shape[a] > 1)
        if spatial:
            claim += f", and is flipped along {_axes_words(problem, spatial)}"
            details = {"order": order, "flipped": spatial}
            yield Explanation(kind, claim, level + SECOND_FAULT, moved.rearranged(torch.flip, spatial), details=details)


@hypothesis("layout", simplest=PLAIN)
def flipped(problem: Problem) -> Iterator[Explanation]:
    """Reversed along one or more axes, such as a kernel that is correlated where it should be convolved."""
    if not problem.same_values:
        return
    long = _long_axes(problem.numeric)[:MOST_AXES]
    for axes in (axes for count in range(1, len(long) + 1) for axes in combinations(long, count)):
        spatial = set(axes) <= set(problem.spatial_axes)
        kernel = ", a kernel turned round" if spatial and problem.is_kernel else ""
        claim = f"is flipped along {_axes_words(problem, axes)}{kernel}"
        level = PLAIN if spatial or len(axes) == 1 else SPECIFIC
        yield Explanation("flipped", claim, level, problem.truth.rearranged(torch.flip, axes), details={"axes": axes})


@hypothesis("layout", simplest=PLAIN)
def rolled(problem: Problem) -> Iterator[Explanation]:
    """Rolled along an axis, or by one along two: what leaves at one end comes in at the other."""
    if not problem.same_values:
        return
    long, shape = _long_axes(problem.numeric), problem.numeric.shape
    moves: list[tuple[Axes, Axes]] = [((a,), (by,)) for a in long for by in range(1, min(shape[a] - 1, MOST_STEPS) + 1)]
    for pair in combinations(long, 2):
        # Of two entries, +1 and -1 are the same.
        first, second = ((1,) if shape[axis] == 2 else (1, -1) for axis in pair)
        moves += [(pair, (i, j)) for i in first for j in second]
    for axes, by in moves:
        short = tuple(b - shape[a] if 2 * b > shape[a] else b for a, b in zip(axes, by, strict=True))
        claim = f"is rolled by {_steps_words(short)} along {_axes_words(problem, axes)}"
        level = PLAIN if max(map(abs, short)) == 1 else SPECIFIC
        moved, details = problem.truth.rearranged(torch.roll, by, axes), {"axes": axes, "steps": short}
        yield Explanation("rolled", claim, level, moved, details=details)


@hypothesis("layout", simplest=SPECIFIC)
def shifted(problem: Problem) -> Iterator[Explanation]:
    """Shifted along one or two axes, with zeros or anything else where nothing was shifted to."""
    shape = problem.numeric.shape
    steps = {
        axis: [by for length in range(1, min(LONGEST_SHIFT, size - 2) + 1) for by in (length, -length)]
        for axis, size in enumerate(shape)
    }
    moves: list[tuple[Axes, Axes]] = [((axis,), (by,)) for axis in steps for by in steps[axis]]
    moves += [
        ((a, b), (i, j)) for a, b in combinations(steps, 2) for i in steps[a] for j in steps[b] if abs(i) == abs(j)
    ]
    for axes, by in moves:
        empty = torch.zeros(shape, dtype=torch.bool)
        for axis, step in zip(axes, by, strict=True):
            empty.narrow(axis, 0 if step > 0 else shape[axis] + step, abs(step)).fill_(True)
        moved = problem.truth.rearranged(torch.roll, by, axes)
        claim = f"is shifted by {_steps_words(by)} along {_axes_words(problem, axes)}"
        level = SPECIFIC if max(map(abs, by)) == 1 else COMPOUND
        filled = UncertainTensor(moved.value.masked_fill(empty, 0.0), moved.allowed)
        details = {"axes": axes, "steps": by}
        yield Explanation("shifted", f"{claim}, with zeros shifted in", level, filled, details=details)
        # Where what was shifted to nothing is right, slices were copied: see `repeated`.
        if 2 * int(empty.sum()) <= empty.numel() and problem.same_shape and bool((problem.wrong & empty).any()):
            yield Explanation("shifted", claim, level + SECOND_FAULT, moved, speaks=~empty, details=details)


@hypothesis("layout", simplest=SPECIFIC)
def symmetrized(problem: Problem) -> Iterator[Explanation]:
    """Of a square matrix: its symmetric part, itself and its transpose, or one of its triangles."""
    shape = problem.numeric.shape
    for a, b in combinations(range(len(shape)), 2):
        if shape[a] != shape[b] or shape[a] < 2:
            continue
        turned = problem.truth.rearranged(torch.transpose, a, b)
        for kind, claim, own, other in (
            ("symmetrized", "is the symmetric part of the true one", 0.5, 0.5),
            ("symmetrized", "is the true one plus its transpose", 1.0, 1.0),
            ("symmetrized", "is the antisymmetric part of the true one", 0.5, -0.5),
        ):
            value = own * problem.numeric + other * turned.value
            allowed = abs(own) * problem.truth.allowed + abs(other) * turned.allowed
            where = f"{claim} in {_axes_words(problem, (a, b))}"
            yield Explanation(kind, where, SPECIFIC, UncertainTensor(value, allowed), details={"axes": (a, b)})
        rows, columns = (
            torch.arange(shape[a]).reshape([-1 if i == axis else 1 for i in range(len(shape))]) for axis in (a, b)
        )
        for word, kept in (("lower", rows >= columns), ("upper", rows <= columns)):
            for part, inside in (("", kept), (" without the diagonal", kept & (rows != columns))):
                where = f"of the true one in {_axes_words(problem, (a, b))}, and zero elsewhere"
                claim = f"is the {word} triangle{part} {where}"
                value = torch.where(inside, problem.numeric, 0.0)
                prediction = UncertainTensor(value, problem.truth.allowed)
                yield Explanation("triangle", claim, SPECIFIC, prediction, details={"axes": (a, b)})


def _steps_words(steps: Axes) -> str:
    return " and ".join(f"{step:+d}" for step in dict.fromkeys(steps))


@hypothesis("layout", simplest=PLAIN, any_shape=True)
def reshaped(problem: Problem) -> Iterator[Explanation]:
    """The values in memory order under another shape: `reshape` where axes should have been permuted."""
    if not problem.same_values:
        return
    shape, dims = tuple(problem.analytic.shape), problem.numeric.dim()
    if not problem.same_shape:
        wanted = tuple(problem.numeric.shape)
        claim = f"has the right values in the right order, and the shape {shape} where it should have {wanted}"
        yield Explanation("reshaped", claim, PLAIN, problem.truth.rearranged(torch.reshape, shape))
    for order in permutations(range(dims)) if dims <= MOST_AXES else ():
        turned = tuple(problem.numeric.shape[axis] for axis in order)
        if order != tuple(range(dims)) and turned != shape:
            claim = (
                f"has its entries scrambled, as if reshaped from {turned} to {shape} where its axes should have been "
                "permuted back"
            )
            scrambled = problem.truth.rearranged(lambda t, order: t.permute(order).reshape(shape), order)
            yield Explanation("reshaped", claim, COMPOUND, scrambled, details={"order": order})


@hypothesis("layout", simplest=SPECIFIC)
def other_memory_order(problem: Problem) -> Iterator[Explanation]:
    """The cotangent of a reshaping, reshaped back with the first axis running fastest."""
    g, shape = problem.cotangent, problem.numeric.shape
    if g is None or g.numel() != problem.numeric.numel() or not problem.same_shape:
        return
    if ((g.reshape(shape) - problem.numeric).abs() <= problem.truth.allowed).all():
        entries = g.permute(*reversed(range(g.dim()))).reshape(-1)
        value = entries.reshape(tuple(reversed(shape))).permute(*reversed(range(len(shape))))
        claim = (
            "has the cotangent's entries reshaped in Fortran order, the first axis fastest, not in the forward's order"
        )
        yield Explanation("reshaped", claim, SPECIFIC, problem.known(value))


@hypothesis("layout", simplest=FITTED, scalable=False)
def reordered(problem: Problem) -> Iterator[Explanation]:
    """Slices along one axis in another order, or in the place of others: an inverse permutation, gates exchanged."""
    for axis in _long_axes(problem.numeric):
        size = problem.numeric.shape[axis]
        if not 2 < size <= MOST_SLICES or problem.numeric.numel() < 2 * size:
            continue
        ours = problem.analytic.movedim(axis, 0).reshape(size, -1)
        theirs = problem.numeric.movedim(axis, 0).reshape(size, -1)
        source = torch.cdist(ours, theirs, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
        if len(set(source.tolist())) < size:
            yield from _repeated(problem, axis, source.tolist())
        else:
            claim = f"has the right slices along {problem.axis(axis)} in the wrong order"
            moved = problem.truth.rearranged(torch.index_select, axis, source)
            details = {"axis": axis, "source": tuple(source.tolist())}
            yield Explanation("reordered", claim, FITTED, moved, details=details)


def _repeated(problem: Problem, axis: int, source: list[int]) -> Iterator[Explanation]:
    """Right slices, of which some stand several times and others are missing."""
    places = [place for place, taken in enumerate(source) if place != taken]
    if len({source[place] for place in places}) < 2 and len(places) != 1:
        return  # one slice everywhere has other names
    listed = ", ".join(f"{source[place]} at {place}" for place in places[:MOST_LISTED])
    more = "" if len(places) <= MOST_LISTED else ", ..."
    claim = f"has slices along {problem.axis(axis)} in the place of others: {listed}{more}"
    moved = problem.truth.rearranged(torch.index_select, axis, torch.tensor(source))
    details = {"axis": axis, "source": tuple(source)}
    yield Explanation("slices-repeated", claim, FITTED + HALF_STEP, moved, details=details)
