"""Points at which finite differences alone do not decide: kinks, vertical slopes, edges of the domain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.comparison import Mismatch, percent
from nn_from_scratch.verify.derivative.findings import Finding, wrong_gradient
from nn_from_scratch.verify.derivative.judgement import judge
from nn_from_scratch.verify.derivative.kinks import Bounds, bounds_at_kink, entries_outside, is_differentiable
from nn_from_scratch.verify.derivative.lines import Line, magnitude
from nn_from_scratch.verify.derivative.measurements import Measurement, best, measure_all
from nn_from_scratch.verify.derivative.points import all_finite, point_at
from nn_from_scratch.verify.derivative.slot_task import GRADIENT, NONDETERMINISTIC, Task, noise_reason
from nn_from_scratch.verify.results import CheckResult

__all__ = ["accused", "not_finite", "unresolved"]

_MOVES = (("even", 1e-3), ("relative", 1e-3), ("even", 1e-6))
_COARSE_MOVES = (("even", 0.3), ("relative", 0.3), ("even", 0.03))
_MOST_NOT_FINITE = 4
_KNOWN = 1e-3
_ZERO = 1e6
_ENTRY_SECONDS = 5.0


def accused(task: Task, measurement: Measurement) -> CheckResult:
    """A gradient that disagrees at this very point; where the function has a kink, that may be a convention."""
    moved = _moved_measurements(task, coarse=measurement.line.coarse)
    if moved is None or any(judge(m, task.context).wrong for m in moved):
        return task.wrong(measurement)
    if measurement.line.coarse:
        return task.undecided(
            "the gradient is right nearby and differs here, where the forward may have a kink that is narrower than "
            "the steps which its rounding allows",
            measurement,
        )
    if task.point.finite is not None or is_differentiable(task.point, task.name, task.context):
        return task.wrong(measurement, "the gradient is right at points nearby, and wrong at this one")
    return _at_kink(task, moved, measurement)


def unresolved(task: Task, measured: Sequence[Measurement]) -> CheckResult:
    """No projection is resolved at this point: look at points close by, and at the one-sided derivatives here.

    Args:
        task: The tensor.
        measured: What was measured at the point itself.
    """
    finest = best(measured)
    if finest.numeric is None:
        return task.undecided("on no segment around this point does the forward give finite outputs", finest)
    if task.point.jitter(finest.row) > NONDETERMINISTIC * finest.line.rounding(finest.row):
        return task.undecided(noise_reason(finest), finest)
    moved = _moved_measurements(task, coarse=finest.line.coarse)
    if moved is None:
        return task.undecided("the numerical derivative does not settle here, and not nearby either", finest)
    for measurement in moved:
        if judge(measurement, task.context).wrong:
            return task.wrong(measurement, "found at a point close by, as the function has a kink at this one")
    if not any(m.resolved and not m.disagrees for m in moved):
        nearby = best(moved)
        if nearby.noisy:
            return task.undecided(noise_reason(nearby), nearby)
        return task.undecided("the numerical derivative does not settle here, and not nearby either", nearby)
    if task.point.finite is not None:
        return task.undecided("the output is not finite everywhere, and has a kink here", finest)
    return _at_kink(task, moved, finest)


def _at_kink(task: Task, moved: Sequence[Measurement], measured: Measurement) -> CheckResult:
    if not any(m.resolved for m in moved):
        return task.undecided("the function has no derivative here, and none that settles nearby", measured)
    bounds = bounds_at_kink(task.point, task.name, task.context)
    share = f"{percent(bounds.share)} of the outputs have a kink here"
    if bounds.verdict == "inside":
        convention = "the gradient lies between the one-sided derivatives, as any convention may choose"
        return task.correct(moved, f"{share}: {convention}; checked in full at a point close by")
    if bounds.verdict == "outside" and not measured.line.coarse:
        return _outside(task, bounds, share)
    if bounds.verdict == "unmeasured":
        return task.undecided(
            "most outputs have no one-sided derivative here that settles (the gradient is right nearby)",
            measured,
        )
    return task.undecided(
        f"{share}, several of them in one output, and the gradient is outside of the one-sided derivatives: "
        f"{bounds.analytic:.6g} is not within [{bounds.low:.6g}, {bounds.high:.6g}] (it is right nearby)",
        measured,
    )


def _outside(task: Task, bounds: Bounds, share: str) -> CheckResult:
    nearest = min(max(bounds.analytic, bounds.low), bounds.high)
    width = max(bounds.high - bounds.low, 0.0)
    mismatch = Mismatch(
        index=None,
        analytic=bounds.analytic,
        numeric=nearest,
        allowed=1e-9 * max(abs(nearest), width),
        count=None,
        total=task.point.values[task.name].numel(),
    )
    seconds = min(_ENTRY_SECONDS, 0.4 * task.context.remaining)
    mismatch = entries_outside(task.point, task.name, task.context, seconds=seconds) or mismatch
    reason = (
        f"{share}, and the gradient is not between the one-sided derivatives: {bounds.analytic:.6g} is not within "
        f"[{bounds.low:.6g}, {bounds.high:.6g}], though it is right at points nearby"
    )
    return CheckResult.wrong(GRADIENT, task.name, reason=reason, mismatch=mismatch)


def _moved_measurements(task: Task, *, coarse: bool) -> list[Measurement] | None:
    """The measurements at a point close by, where kinks are elsewhere; None if the subject has no such point."""
    x = task.point.values[task.name]
    latest: list[Measurement] | None = None
    for attempt, (kind, distance) in enumerate(_COARSE_MOVES if coarse else _MOVES):
        r = task.context.signed(x.shape, "move", task.name, attempt, device=x.device) * distance
        step = r * (magnitude(x) if kind == "even" else x.abs())
        values = {**task.point.values, task.name: x + step.to(x.dtype)}
        try:
            point = point_at(task.point.subject, values, task.context)
        except SubjectError:
            continue
        if point.outputs.numel() != task.point.outputs.numel():
            continue
        gradient = point.gradient(task.name, 0)
        if gradient is not None and not all_finite(gradient):
            continue
        latest = measure_all(point, task.name, task.context, "moved", attempt)
        if any(m.resolved for m in latest):
            return latest
    return latest


def not_finite(task: Task, gradient: Tensor | None) -> CheckResult | None:
    """NaN or infinity in a gradient is wrong where the function has a derivative, and says nothing elsewhere."""
    if gradient is None or task.point.finite is not None or all_finite(gradient):
        return None
    x = task.point.values[task.name]
    bad = (~torch.isfinite(gradient)).reshape(-1).nonzero().reshape(-1)
    for index in bad[:_MOST_NOT_FINITE].tolist():
        u = torch.zeros(x.numel(), dtype=torch.float64, device=x.device)
        u[index] = magnitude(x)
        line = Line(task.point, task.name, u.reshape(x.shape), task.context)
        numeric = line.derivative(0, 0.0)
        if numeric is None or not numeric.settled or not math.isfinite(numeric.error):
            continue
        if numeric.error > _KNOWN * max(abs(numeric.value), _ZERO * line.rounding(0)):
            continue
        # A derivative along one entry is not enough: at rank deficiency, say, there is one along every entry.
        if not is_differentiable(task.point, task.name, task.context):
            break
        finding = Finding(point=task.point, slot=task.slot, row=0, start=numeric.start, projected=None, reason=None)
        found = wrong_gradient(GRADIENT, finding, task.context)
        return found.with_fields(reason=f"{len(bad)} of {x.numel()} entries of the gradient are not finite")
    return task.undecided(
        f"{len(bad)} of {x.numel()} entries of the gradient are not finite, where finite differences settle on no "
        "derivative either (the edge of the domain, a vertical slope, a point without a derivative)"
    )
