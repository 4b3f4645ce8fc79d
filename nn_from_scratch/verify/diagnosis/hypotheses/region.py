"""Right in one region and wrong in the rest: border, last row, phase of the stride, first sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import (
    COMPOUND,
    FITTED,
    HALF_STEP,
    REGION_BITS,
    REGION_BITS_PER_AXIS,
    SPECIFIC,
    VAGUE,
)
from nn_from_scratch.verify.diagnosis.explanation import Explanation, hypothesis
from nn_from_scratch.verify.diagnosis.factors import special_factor
from nn_from_scratch.verify.diagnosis.problem import Problem, UncertainTensor, plain

_PLAINNESS = {"first": 0, "last": 0, "single": 0, "edges": 1, "phase": 1, "interior": 2, "some": 2}
"""Of two descriptions of one region, the one whose worst pattern ranks lower here is given; others rank last."""


@dataclass(frozen=True)
class IndexSet:
    """A named set of indices along one axis.

    Attributes:
        pattern: first, last, not-first, not-last, edges, interior, phase, not-phase, single or some.
        words: How a sentence calls it.
        members: The set itself (bool, one for each index).
    """

    axis: int
    pattern: str
    words: str
    members: Tensor


@hypothesis("region", simplest=SPECIFIC, scalable=False)
def regional(problem: Problem) -> Iterator[Explanation]:
    """The wrong entries, or the right ones, are those whose index is in a nameable set along each axis."""
    if not problem.telling.any():
        return
    inside, outside = (_box(problem, problem.wrong, problem.telling), _box(problem, problem.telling, problem.wrong))
    # Along a single axis both hold, and say the same of complementary places: the simpler words are wanted.
    wrong_inside = inside is not None and (outside is None or _plainness(inside) <= _plainness(outside))
    sets = inside if wrong_inside else outside
    if sets is None:
        return
    box = torch.ones(problem.numeric.shape, dtype=torch.bool)
    for entry in sets:
        box &= _along(entry.axis, entry.members, problem.numeric.dim())
    words = " and ".join(entry.words for entry in sets)
    where = f"in {words}" if wrong_inside else f"everywhere but in {words}"
    rest = [_describe(problem, entry.axis, ~entry.members) for entry in sets]
    around = [entry for entry in rest if entry is not None]
    if not wrong_inside and len(around) == len(sets) and _plainness(around) < _plainness(sets):
        where = "in " + " or ".join(entry.words for entry in around)
    details = {"wrong_inside": wrong_inside, "words": words}
    region = box if wrong_inside else ~box
    yield from _contents(problem, _kind(problem, sets, wrong_inside), region, where, details, axes=len(sets))


def _box(problem: Problem, inside: Tensor, outside: Tensor) -> list[IndexSet] | None:
    """The smallest product of index sets around `inside`, if it keeps out of `outside` and has a name."""
    dims = inside.dim()
    members = [inside.movedim(axis, 0).reshape(size, -1).any(1) for axis, size in enumerate(inside.shape)]
    box = torch.ones_like(inside)
    for axis, chosen in enumerate(members):
        box &= _along(axis, chosen, dims)
    if (box & outside).any():
        return None
    described = [_describe(problem, axis, chosen) for axis, chosen in enumerate(members) if not chosen.all()]
    known = [entry for entry in described if entry is not None]
    return known if known and len(known) == len(described) else None


def _along(axis: int, members: Tensor, dims: int) -> Tensor:
    """The indices of one axis, shaped to broadcast over a tensor of so many axes."""
    return members.reshape([-1 if a == axis else 1 for a in range(dims)])


def _plainness(sets: list[IndexSet]) -> int:
    return max(_PLAINNESS.get(entry.pattern, 3) for entry in sets)


def _describe(problem: Problem, axis: int, members: Tensor) -> IndexSet | None:
    """Name a set of indices that is neither empty nor everything; None if it has no simple description."""
    size, indices = len(members), members.nonzero().flatten().tolist()
    found = _pattern(size, indices) if 0 < len(indices) < size else None
    return None if found is None else IndexSet(axis, found[0], f"{found[1]} along {problem.axis(axis)}", members)


def _pattern(size: int, indices: list[int]) -> tuple[str, str] | None:
    count = len(indices)
    if indices == list(range(count)):
        if count == size - 1 and size > 2:
            return "not-last", "all but the last place"
        return "first", f"the first {_places(count)}"
    if indices == list(range(size - count, size)):
        if count == size - 1 and size > 2:
            return "not-first", "all but the first place"
        return "last", f"the last {_places(count)}"
    if count == 1:
        return "single", f"place {indices[0]}"
    if indices == list(range(indices[0], size - indices[0])):
        return "interior", f"all but the {_places(indices[0])} at each end"
    rest = sorted(set(range(size)) - set(indices))
    if rest == list(range(rest[0], size - rest[0])):
        # Of three places, the first and the last are also every second one.
        return ("some", "places 0 and 2") if size == 3 else ("edges", f"the {_places(rest[0])} at each end")
    for step in range(2, size // 2 + 1):
        for phase in range(step):
            every = list(range(phase, size, step))
            if indices == every:
                return "phase", f"every place that is {phase} mod {step}"
            if rest == every:
                return "not-phase", f"all places but those that are {phase} mod {step}"
    if indices == list(range(indices[0], indices[-1] + 1)):
        return "some", f"places {indices[0]} to {indices[-1]}"
    return None


def _places(count: int) -> str:
    return "place" if count == 1 else f"{count} places"


def _kind(problem: Problem, sets: list[IndexSet], wrong_inside: bool) -> str:
    """The identifier of a region, from the patterns along its axes."""
    patterns = {entry.pattern for entry in sets}
    of_batch = len(sets) == 1 and problem.axis_name(sets[0].axis) == "N"
    if of_batch and not wrong_inside and sets[0].pattern == "first" and int(sets[0].members.sum()) == 1:
        return "first-sample-only"
    if patterns <= {"phase", "not-phase"}:
        return "stride-phase"
    if patterns == ({"edges"} if wrong_inside else {"interior"}):
        return "border"
    edge = {"first", "last"} if wrong_inside else {"not-first", "not-last", "first", "last"}
    return "edge" if patterns <= edge else "slice"


def _contents(
    problem: Problem,
    kind: str,
    region: Tensor,
    where: str,
    details: dict[str, object],
    *,
    axes: int = 1,
    rank: float = 0.0,
) -> Iterator[Explanation]:
    """What stands in the wrong region: zero, a factor, or something else."""
    truth = problem.truth
    rest = "there" if where.startswith("everywhere but") else "elsewhere"
    nothing = UncertainTensor(truth.value.masked_fill(region, 0.0), truth.allowed)
    yield Explanation(kind, f"is zero {where}, and right {rest}", SPECIFIC + rank, nothing, details=details)
    cut = truth.rearranged(lambda t: t[region])
    factor = special_factor(problem.analytic[region], cut, problem)
    if factor is not None:
        yield Explanation(
            kind,
            f"{factor} {where}, and is right {rest}",
            (COMPOUND if factor.known else FITTED) + rank,
            truth.where(region, truth.scaled(factor.value)),
            fitted=0 if factor.known else 1,
            details={**details, **factor.details},
        )
    if _surprise(problem) >= REGION_BITS + REGION_BITS_PER_AXIS * axes:
        yield Explanation(kind, f"is wrong {where}, and right {rest}", VAGUE + rank, None, details=details)


def _surprise(problem: Problem) -> float:
    """How telling it is which values are wrong, in bits: log2 of the number of ways to choose as many.

    Equal values count once: they are right or wrong together, whatever the fault.
    """
    wrong, right = (_distinct(problem, mask) for mask in (problem.wrong, problem.telling))
    return math.log2(math.comb(wrong + right, wrong))


def _distinct(problem: Problem, mask: Tensor) -> int:
    """How many values the true gradient has in a region, in magnitude and within the allowed error."""
    values = problem.numeric.abs()[mask].sort().values
    return 1 + int((values.diff() > 2 * problem.truth.allowed[mask].median()).sum())


@hypothesis("region", simplest=SPECIFIC + HALF_STEP, scalable=False)
def where_condition(problem: Problem) -> Iterator[Explanation]:
    """The wrong entries are those where x, or the cotangent, has one sign or lies beyond one."""
    if not problem.telling.any():
        return
    context = problem.context
    sources = {"the cotangent": context.only_cotangent}
    if context.name in context.tensors:
        sources = {str(context.name): context.tensors[str(context.name)], **sources}
    for label, tensor in sources.items():
        if tensor is None or tensor.shape != problem.numeric.shape or tensor.is_complex():
            continue
        v = plain(tensor)
        for words, mask in (
            (f"{label} > 0", v > 0),
            (f"{label} < 0", v < 0),
            (f"{label} >= 0", v >= 0),
            (f"{label} <= 0", v <= 0),
            (f"{label} = 0", v == 0),
            (f"|{label}| > 1", v.abs() > 1),
            (f"|{label}| < 1", v.abs() < 1),
        ):
            if not (problem.wrong & ~mask).any() and not (problem.telling & mask).any():
                details: dict[str, object] = {"condition": words}
                yield from _contents(problem, "where-condition", mask, f"where {words}", details, rank=HALF_STEP)
                break
