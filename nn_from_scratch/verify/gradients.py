"""The gradient check: what a backward returns, held against finite differences, one tensor at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.comparison import Mismatch, percent
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.descriptions import details, is_nondeterministic, noise_reason, projected
from nn_from_scratch.verify.findings import Finding, wrong_gradient
from nn_from_scratch.verify.kinks import Bounds, bounds_at_kink, entries_outside, is_differentiable
from nn_from_scratch.verify.lines import Line, magnitude
from nn_from_scratch.verify.measurements import Measurement, best, judge, measure_all
from nn_from_scratch.verify.points import Point, all_finite, point_at, working_values
from nn_from_scratch.verify.protocol import Slot, Subject
from nn_from_scratch.verify.results import CheckResult

__all__ = ["GRADIENT", "check_gradient"]

GRADIENT = "gradient"
_MOVES = (("even", 1e-3), ("relative", 1e-3), ("even", 1e-6))
_MOST_NOT_FINITE = 4
_KNOWN = 1e-3
_ZERO = 1e6
_ENTRY_SECONDS = 5.0


def check_gradient(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Check the gradient of every differentiable tensor by finite differences.

    For each tensor, directional derivatives <VJP(v), u> are compared with those of φ(t) = <v, f(x + t u)> by Ridders'
    method, for random dense signed u and v; the tolerance is a multiple of the estimated error. About 10 to 30 forward
    passes a direction, whatever the number of entries.

    Args:
        subject: The subject.
        context: Seed, level, tolerance factor, options (`resolution`, `entry_seconds`) and deadline.

    Returns:
        One result for each differentiable tensor.

    Raises:
        SubjectError: If the subject's forward raises, or it has no floating-point output.
    """
    slots = [slot for slot in subject.slots if slot.differentiable]
    if not slots:
        return [CheckResult.not_applicable(GRADIENT, "no tensor of the subject is differentiable")]
    values, why = working_values(subject)
    try:
        point = point_at(subject, values, context)
    except SubjectError as error:
        subject.forward(values)
        return [CheckResult.wrong(GRADIENT, reason=str(error))]
    notes = {} if why is None else {"dtype": why}
    results = []
    for slot in slots:
        began = time.monotonic()
        result = _check_slot(_Task(point=point, slot=slot, context=context))
        details = {**notes, **result.details}
        results.append(result.with_fields(details=details, seconds=time.monotonic() - began))
    return results


@dataclass(frozen=True, kw_only=True)
class _Task:
    point: Point
    slot: Slot
    context: CheckContext
    note: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.slot.name

    def undecided(self, reason: str, measured: Measurement | None = None) -> CheckResult:
        resolution = None if measured is None else measured.resolution
        return CheckResult.undecided(GRADIENT, reason, self.name, resolution=resolution, details=details(measured))

    def correct(self, measured: Sequence[Measurement], reason: str | None = None) -> CheckResult:
        finest = best(measured)
        resolved = [m for m in measured if m.resolved]
        return CheckResult.correct(
            GRADIENT,
            self.name,
            reason=reason,
            margin=max(m.margin for m in resolved),
            resolution=finest.resolution,
            details=details(finest),
        )

    def wrong(self, measured: Measurement, reason: str | None = None) -> CheckResult:
        assert measured.numeric is not None
        finding = Finding(
            point=measured.line.point,
            slot=self.slot,
            row=measured.row,
            start=measured.numeric.start,
            projected=projected(measured),
            reason=reason,
        )
        return wrong_gradient(GRADIENT, finding, self.context).with_fields(
            margin=measured.margin, resolution=measured.resolution
        )


def _check_slot(task: _Task) -> CheckResult:
    point, name, context = task.point, task.name, task.context
    x = point.values[name]
    if x.numel() == 0 or point.outputs.numel() == 0:
        if point.finite is not None:
            return task.undecided("no entry of the output is finite here")
        what = "the tensor" if x.numel() == 0 else "the output"
        return CheckResult.not_applicable(GRADIENT, f"{what} has no entries", name)
    if not all_finite(x):
        return task.undecided("the tensor holds entries that are not finite, so it cannot be moved")
    gradient = point.gradient(name, 0)
    if gradient is not None and gradient.shape != x.shape:
        return _wrong_shape(task, gradient)
    measured = measure_all(point, name, context)
    if gradient is None and not task.slot.required:
        return _undeclared(task, measured)
    broken = _not_finite(task, gradient)
    if broken is not None:
        return broken
    judged = [judge(measurement, context) for measurement in measured]
    for judgement in judged:
        if judgement.wrong:
            return _accused(task, judgement.measurement)
    measured = [judgement.measurement for judgement in judged]
    if any(m.resolved for m in measured):
        return task.correct(measured, _notes(task))
    return _unresolved(task, measured)


def _accused(task: _Task, measurement: Measurement) -> CheckResult:
    """A gradient that disagrees at this very point; where the function has a kink, that may be a convention."""
    moved = _moved_measurements(task)
    if moved is None or any(judge(m, task.context).wrong for m in moved):
        return task.wrong(measurement)
    if task.point.finite is not None or is_differentiable(task.point, task.name, task.context):
        return task.wrong(measurement, "the gradient is right at points nearby, and wrong at this one")
    return _at_kink(task, moved, measurement)


def _unresolved(task: _Task, measured: Sequence[Measurement]) -> CheckResult:
    finest = best(measured)
    if finest.numeric is None:
        return task.undecided("on no segment around this point does the forward give finite outputs", finest)
    if is_nondeterministic(finest):
        return task.undecided(noise_reason(finest), finest)
    moved = _moved_measurements(task)
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


def _at_kink(task: _Task, moved: Sequence[Measurement], measured: Measurement) -> CheckResult:
    bounds = bounds_at_kink(task.point, task.name, task.context)
    share = f"{percent(bounds.share)} of the outputs have a kink here"
    if bounds.verdict == "inside":
        convention = "the gradient lies between the one-sided derivatives, as any convention may choose"
        return task.correct(moved, f"{share}: {convention}; checked in full at a point close by")
    if bounds.verdict == "outside":
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


def _outside(task: _Task, bounds: Bounds, share: str) -> CheckResult:
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


def _moved_measurements(task: _Task) -> list[Measurement] | None:
    """The measurements at a point close by, where kinks are elsewhere; None if the subject has no such point."""
    x = task.point.values[task.name]
    latest: list[Measurement] | None = None
    for attempt, (kind, distance) in enumerate(_MOVES):
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


def _not_finite(task: _Task, gradient: Tensor | None) -> CheckResult | None:
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


def _wrong_shape(task: _Task, gradient: Tensor) -> CheckResult:
    x = task.point.values[task.name]
    reason = f"the gradient has the shape {list(gradient.shape)}, which should be {list(x.shape)}"
    finding = Finding(point=task.point, slot=task.slot, row=0, start=0.1, projected=None, reason=reason)
    return wrong_gradient(GRADIENT, finding, task.context)


def _undeclared(task: _Task, measured: Sequence[Measurement]) -> CheckResult:
    finest = best(measured)
    depends = finest.numeric is not None and finest.disagrees
    effect = "although the output changes with it" if depends else "and the output does not change with it"
    return CheckResult.not_applicable(
        GRADIENT,
        f"the subject returns None for it, {effect}; let the tensor require grad to have it checked",
        task.name,
    )


def _notes(task: _Task) -> str | None:
    if task.point.finite is None:
        return None
    total = task.point.finite.numel()
    return f"{total - int(task.point.finite.sum())} of {total} outputs are not finite and were left out"
