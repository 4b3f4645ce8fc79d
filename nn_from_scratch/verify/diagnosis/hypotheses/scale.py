"""The gradient is missing, zero, or the true one times a constant."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.explanation import Explanation
from nn_from_scratch.verify.diagnosis.factors import Factor, recognise, say
from nn_from_scratch.verify.diagnosis.problem import Estimate, Problem

__all__ = ["common_factor", "factor", "sign", "simple_factor", "zero"]

_PROBE = 509


def zero(problem: Problem) -> Iterator[Explanation]:
    """Every entry is zero; the true gradient is not."""
    if problem.same_shape:
        nothing = torch.zeros_like(problem.numeric)
        yield Explanation("zero", "zero", "is zero everywhere", 0, Estimate(nothing, nothing), scalable=False)


def sign(problem: Problem) -> Iterator[Explanation]:
    """The gradient is minus the true one."""
    yield Explanation("sign", "factor", "has the wrong sign", 1, problem.truth.scaled(-1.0), scalable=False)


def factor(problem: Problem) -> Iterator[Explanation]:
    """The gradient is a constant times the true one."""
    if not problem.same_shape:
        return
    interval = common_factor(problem.analytic, problem.truth)
    if interval is None:
        return
    found = recognise(problem, *interval)
    yield Explanation(
        "factor",
        "factor",
        say(found),
        2 if found.known else 3,
        problem.truth.scaled(found.value),
        fitted=0 if found.known else 1,
        scalable=False,
        details={"factor": found.value, "names": found.names},
    )


def common_factor(observed: Tensor, truth: Estimate) -> tuple[float, float, float] | None:
    """The factor c of observed = c·truth, as (least, best, greatest), or None if no c meets every entry.

    The best is the least-squares one, weighted with the allowed errors; the interval holds all c that are
    consistent with each entry on its own, so that a named number inside it is as good as the best.
    """
    floor = torch.finfo(torch.float64).tiny
    weight = 1 / truth.allowed.clamp(min=floor)
    weighted = truth.value * weight
    weighted = weighted / weighted.abs().max().clamp(min=floor)
    power = (weighted * weighted).sum()
    if not power > 0 or not observed.isfinite().all():
        return None
    scale = (truth.value * weight).abs().max()
    best = float(((observed * weight / scale) * weighted).sum() / power)
    if best == 0:
        return None
    slack = truth.scaled(best).allowed
    if not ((observed - best * truth.value).abs() <= 2 * slack).all():
        return None
    usable = truth.value.abs() > 2 * truth.allowed
    if not usable.any():
        return None
    centre, width = (observed / truth.value)[usable], (slack / truth.value.abs())[usable]
    least, greatest = float((centre - width).max()), float((centre + width).min())
    return (least, best, greatest) if least <= greatest else None


def simple_factor(problem: Problem, observed: Tensor, truth: Estimate, speaks: Tensor | None = None) -> Factor | None:
    """The factor of observed = c·truth where it is -1 or may be fitted; None if it is 1 or there is none.

    With `speaks` (bool, of the same shape), the other entries may be anything.
    """
    if observed.numel() > 2 * _PROBE:
        step = observed.numel() // _PROBE
        few = truth.rearranged(lambda t: t.reshape(-1)[::step])
        heard = few.value.abs() > 2 * few.allowed
        if speaks is not None:
            heard &= speaks.reshape(-1)[::step]
        # Most hypotheses fail everywhere; a few entries show it, unless they are all zero.
        part = few.rearranged(lambda t: t[heard])
        if heard.any() and common_factor(observed.reshape(-1)[::step][heard], part) is None:
            return None
    if speaks is not None:
        observed, truth = observed[speaks], truth.rearranged(lambda t: t[speaks])
    interval = common_factor(observed, truth)
    if interval is None or interval[0] <= 1 <= interval[2]:
        return None
    if interval[0] <= -1 <= interval[2]:
        return Factor(-1.0, known=True)
    return recognise(problem, *interval)
