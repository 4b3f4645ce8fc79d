"""Points at which finite differences alone do not decide: kinks, vertical slopes, edges of the domain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.comparison import Mismatch, percent
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.confirmation import confirm
from nn_from_scratch.verify.derivative.kinks import Bounds, bounds_at_kink, entries_outside, is_differentiable
from nn_from_scratch.verify.derivative.linearization import LinearizationPoint, all_finite, point_at
from nn_from_scratch.verify.derivative.measurements import Measurement, best, measure_all
from nn_from_scratch.verify.derivative.probes import DirectionalProbe, magnitude
from nn_from_scratch.verify.derivative.wrong_gradient import WrongGradient, wrong_gradient
from nn_from_scratch.verify.protocol import Operand
from nn_from_scratch.verify.results import CheckResult

__all__ = ["GRADIENT", "NONDETERMINISTIC", "Task", "noise_reason", "not_finite", "report_wrong", "unresolved"]

_MOVES = (("even", 1e-3), ("relative", 1e-3), ("even", 1e-6))
_COARSE_MOVES = (("even", 0.3), ("relative", 0.3), ("even", 0.03))
_MOST_NOT_FINITE = 4
_KNOWN = 1e-3
_ZERO = 1e6
_ENTRY_SECONDS = 5.0


def report_wrong(task: Task, measurement: Measurement) -> CheckResult:
    """A gradient that disagrees at this very point; where the function has a kink, that may be a convention."""
    moved = _moved_measurements(task, coarse=measurement.line.coarse)
    if moved is None or any(confirm(m, task.context).wrong for m in moved):
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
    if task.point.nondeterminism(finest.row) > NONDETERMINISTIC * finest.line.rounding(finest.row):
        return task.undecided(noise_reason(finest), finest)
    moved = _moved_measurements(task, coarse=finest.line.coarse)
    if moved is None:
        return task.undecided("the numerical derivative does not settle here, and not nearby either", finest)
    for measurement in moved:
        if confirm(measurement, task.context).wrong:
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
        line = DirectionalProbe(task.point, task.name, u.reshape(x.shape), task.context)
        numeric = line.derivative(0, 0.0)
        if numeric is None or not numeric.settled or not math.isfinite(numeric.error):
            continue
        if numeric.error > _KNOWN * max(abs(numeric.value), _ZERO * line.rounding(0)):
            continue
        # A derivative along one entry is not enough: at rank deficiency, say, there is one along every entry.
        if not is_differentiable(task.point, task.name, task.context):
            break
        finding = WrongGradient(
            point=task.point, slot=task.slot, row=0, start=numeric.start, projected=None, reason=None
        )
        found = wrong_gradient(GRADIENT, finding, task.context)
        return found.with_fields(reason=f"{len(bad)} of {x.numel()} entries of the gradient are not finite")
    return task.undecided(
        f"{len(bad)} of {x.numel()} entries of the gradient are not finite, where finite differences settle on no "
        "derivative either (the edge of the domain, a vertical slope, a point without a derivative)"
    )


GRADIENT = "gradient"
NONDETERMINISTIC = 4.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One tensor's gradient at one point."""

    point: LinearizationPoint
    slot: Operand
    context: CheckContext

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.slot.name

    def undecided(self, reason: str, measured: Measurement | None = None) -> CheckResult:
        """The gradient could not be decided, for this reason."""
        resolution = None if measured is None else measured.resolution
        return CheckResult.undecided(GRADIENT, reason, self.name, resolution=resolution, details=_details(measured))

    def correct(self, measured: Sequence[Measurement], reason: str | None = None) -> CheckResult:
        """The gradient agrees in every measurement that is resolved; the reason holds what else is to say."""
        finest = best(measured)
        resolved = [m for m in measured if m.resolved]
        return CheckResult.correct(
            GRADIENT,
            self.name,
            reason=reason,
            margin=max(m.margin for m in resolved),
            resolution=finest.resolution,
            details=_details(finest),
        )

    def wrong(self, measured: Measurement, reason: str | None = None) -> CheckResult:
        """The gradient disagrees in this measurement, beyond doubt."""
        assert measured.numeric is not None
        finding = WrongGradient(
            point=measured.line.point,
            slot=self.slot,
            row=measured.row,
            start=measured.numeric.start,
            projected=_projected(measured),
            reason=reason,
        )
        found = wrong_gradient(GRADIENT, finding, self.context)
        return found.with_fields(
            margin=measured.margin,
            resolution=measured.resolution,
            details={**_details(measured), **found.details},
        )


def noise_reason(measured: Measurement) -> str:
    """What kind of noise keeps a measurement from being resolved, and how much there is of it.

    Args:
        measured: The measurement.
    """
    point, row = measured.line.point, measured.row
    level = max(point.nondeterminism(row), measured.line.rounding(row))
    size = float(torch.linalg.vector_norm(point.cotangents[row] * point.outputs))
    if measured.still:
        return "noise: the outputs do not move, and the analytic derivative is too small to move them beyond rounding"
    if point.nondeterminism(row) > NONDETERMINISTIC * measured.line.rounding(row):
        return f"nondeterministic: identical calls differ by {level / size if size else level:.2g} of the output"
    return (
        f"noise: the forward's rounding leaves a relative resolution of {measured.resolution:.2g}, where "
        "something finer is needed"
    )


def _projected(measured: Measurement) -> Mismatch:
    assert measured.numeric is not None
    return Mismatch(
        index=None,
        analytic=measured.analytic,
        numeric=measured.numeric.value,
        allowed=measured.allowed,
        count=None,
        total=measured.line.x.numel(),
    )


def _details(measured: Measurement | None) -> Mapping[str, Any]:
    if measured is None or measured.numeric is None:
        return {}
    numeric = measured.numeric
    return {
        "direction": measured.direction,
        "analytic": measured.analytic,
        "numeric": numeric.value,
        "estimated_error": numeric.error,
        "rounding_floor": numeric.floor,
        "step": numeric.step,
        "dtype_checked": str(measured.line.x.dtype).removeprefix("torch."),
    }
