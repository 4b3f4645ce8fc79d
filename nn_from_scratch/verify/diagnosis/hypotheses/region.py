"""Right in one region and wrong in the rest: border, last row, phase of the stride, first sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.explanation import Explanation
from nn_from_scratch.verify.diagnosis.factors import say
from nn_from_scratch.verify.diagnosis.hypotheses.scale import simple_factor
from nn_from_scratch.verify.diagnosis.patterns import IndexSet, bounding_sets, describe, product_mask
from nn_from_scratch.verify.diagnosis.problem import Estimate, Problem, plain

__all__ = ["conjugated", "regional", "where_condition"]

_PATTERN_BITS = 8.0
_PATTERN_BITS_PER_AXIS = 4.0


def regional(problem: Problem) -> Iterator[Explanation]:
    """The wrong entries, or the right ones, are those whose index is in a nameable set along each axis."""
    if not problem.same_shape or not problem.wrong.any() or not problem.telling.any():
        return
    inside, outside = (
        _box(problem, problem.wrong, problem.telling),
        _box(problem, problem.telling, problem.wrong),
    )
    # Along a single axis both hold, and say the same of complementary places: the simpler words are wanted.
    if inside is not None and (outside is None or _plainness(inside[1]) <= _plainness(outside[1])):
        mask, sets = inside
        region, wrong_inside = mask, True
    elif outside is not None:
        mask, sets = outside
        region, wrong_inside = ~mask, False
    else:
        return
    words = " and ".join(entry.words for entry in sets)
    where = f"in {words}" if wrong_inside else f"everywhere but in {words}"
    rest = [describe(entry.axis, problem.axis(entry.axis), ~entry.members) for entry in sets]
    around = [entry for entry in rest if entry is not None]
    if not wrong_inside and len(around) == len(sets) and _plainness(around) < _plainness(sets):
        where = "in " + " or ".join(entry.words for entry in around)
    kind = _kind(problem, sets, wrong_inside)
    base = Explanation(kind, "region", "", 6, None, details={"wrong_inside": wrong_inside, "words": words})
    yield from _contents(problem, region, where, base, axes=len(sets))


def _box(problem: Problem, inside: Tensor, outside: Tensor) -> tuple[Tensor, list[IndexSet]] | None:
    """The smallest product of index sets around `inside`, if it keeps out of `outside` and has a name."""
    members = bounding_sets(inside)
    box = product_mask(members)
    if (box & outside).any():
        return None
    partial = [axis for axis, chosen in enumerate(members) if not chosen.all()]
    described = [describe(axis, problem.axis(axis), members[axis]) for axis in partial]
    known = [entry for entry in described if entry is not None]
    return (box, known) if known and len(known) == len(described) else None


def _plainness(sets: list[IndexSet]) -> int:
    ranks = {"first": 0, "last": 0, "single": 0, "edges": 1, "phase": 1, "interior": 2, "some": 2}
    return max(ranks.get(entry.pattern, 3) for entry in sets)


def _kind(problem: Problem, sets: list[IndexSet], wrong_inside: bool) -> str:
    """The identifier of a region, from the patterns along its axes."""
    patterns = {entry.pattern for entry in sets}
    of_batch = len(sets) == 1 and problem.axis_name(sets[0].axis) == "N"
    if of_batch and not wrong_inside and sets[0].pattern == "first" and int(sets[0].members.sum()) == 1:
        return "first-sample-only"
    if patterns <= {"phase", "not-phase"}:
        return "stride-phase"
    if (patterns == {"interior"} and not wrong_inside) or (patterns == {"edges"} and wrong_inside):
        return "border"
    edge = {"first", "last"} if wrong_inside else {"not-first", "not-last", "first", "last"}
    return "edge" if patterns <= edge else "slice"


def _pattern_bits(problem: Problem) -> float:
    """How telling it is which values are wrong: log2 of the number of ways to choose as many.

    Equal values count once: they are right or wrong together, whatever the fault.
    """
    wrong, right = (_distinct(problem, mask) for mask in (problem.wrong, problem.telling))
    return math.log2(math.comb(wrong + right, wrong))


def _distinct(problem: Problem, mask: Tensor) -> int:
    """How many values the true gradient has in a region, in magnitude and within the allowed error."""
    values = problem.numeric.abs()[mask].sort().values
    return 1 + int((values.diff() > 2 * problem.truth.allowed[mask].median()).sum())


def _contents(
    problem: Problem, region: Tensor, where: str, base: Explanation, *, axes: int = 1
) -> Iterator[Explanation]:
    """What stands in the wrong region: zero, a factor, or something else."""
    analytic, truth = problem.analytic, problem.truth
    nothing = Estimate(torch.where(region, 0.0, truth.value), truth.allowed)
    yield replace(base, claim=f"is zero {where}, and right elsewhere", complexity=3, prediction=nothing, scalable=False)
    cut = Estimate(truth.value[region], truth.allowed[region])
    factor = simple_factor(problem, analytic[region], cut)
    if factor is not None:
        both = truth.scaled(factor.value)
        prediction = Estimate(
            torch.where(region, both.value, truth.value), torch.where(region, both.allowed, truth.allowed)
        )
        yield replace(
            base,
            claim=f"{say(factor)} {where}, and is right elsewhere",
            complexity=4 if factor.known else 5,
            prediction=prediction,
            fitted=0 if factor.known else 1,
            scalable=False,
            details={**base.details, "factor": factor.value, "names": factor.names},
        )
    if _pattern_bits(problem) >= _PATTERN_BITS + _PATTERN_BITS_PER_AXIS * axes:
        yield replace(base, claim=f"is wrong {where}, and right elsewhere", scalable=False)


def where_condition(problem: Problem) -> Iterator[Explanation]:
    """The wrong entries are those where x, or the cotangent, has one sign or lies beyond one."""
    if not problem.same_shape or not problem.wrong.any() or not problem.telling.any():
        return
    context = problem.context
    sources: list[tuple[str, Tensor]] = []
    if context.name is not None and context.name in context.tensors:
        sources.append((context.name, context.tensors[context.name]))
    if context.only_cotangent is not None:
        sources.append(("the cotangent", context.only_cotangent))
    for label, tensor in sources:
        if tensor.shape != problem.numeric.shape or tensor.is_complex():
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
                base = Explanation("where-condition", "region", "", 6, None, details={"condition": words})
                for found in _contents(problem, mask, f"where {words}", base):
                    yield replace(found, complexity=found.complexity + 0.5)
                break


def conjugated(problem: Problem) -> Iterator[Explanation]:
    """A complex gradient with the wrong sign in its imaginary part: torch's convention is the conjugate."""
    if not problem.same_shape or not problem.complex:
        return
    turned = problem.numeric.clone()
    turned[..., 1] *= -1
    yield Explanation(
        "conjugated", "layout", "is the complex conjugate of the true one", 2, problem.truth.replaced(turned)
    )
