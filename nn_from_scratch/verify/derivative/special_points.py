"""Points at which finite differences alone do not decide: kinks, vertical slopes, edges of the domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.comparison import Mismatch, percent
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.kinks import (
    Bounds,
    bounds_at_kink,
    entries_outside,
    is_differentiable,
    one_sided_derivatives,
)
from nn_from_scratch.verify.derivative.linearization import all_finite, point_at
from nn_from_scratch.verify.derivative.measurements import Measurement, best, confirm, measure_all
from nn_from_scratch.verify.derivative.probes import DirectionalProbe, VariedOperand
from nn_from_scratch.verify.derivative.wrong_gradient import GRADIENT, wrong_gradient
from nn_from_scratch.verify.results import CheckResult


def report_wrong(varied: VariedOperand, measurement: Measurement, reason: str | None = None) -> CheckResult:
    """A gradient that disagrees at this very point; where the function has a kink, that may be a convention.

    Args:
        reason: What is wrong, in words, if there is more to say than the numbers do.
    """
    low_precision = measurement.probe.low_precision
    moved = _measured_nearby(varied, low_precision=low_precision)
    if moved is None or any(confirm(m).wrong for m in moved):
        return _wrong(measurement, reason)
    if low_precision:
        return undecided(
            varied,
            "the gradient is right nearby and differs here, where the forward may have a kink that is narrower than "
            "the steps which its rounding allows",
            measurement,
        )
    if varied.point.finite is not None or is_differentiable(varied):
        return _wrong(measurement, "the gradient is right at points nearby, and wrong at this one")
    return _at_kink(varied, moved, measurement)


def unresolved(varied: VariedOperand, measured: Sequence[Measurement]) -> CheckResult:
    """No projection is resolved at this point: look at points close by, and at the one-sided derivatives here."""
    finest = best(measured)
    if finest.numeric is None:
        return undecided(varied, "on no segment around this point does the forward give finite outputs", finest)
    if _is_nondeterministic(finest):
        return undecided(varied, _noise_reason(finest), finest)
    if all(measurement.stationary for measurement in measured):
        return correct(varied, measured, "the outputs do not move here, and the gradient is as small as their rounding")
    if not any(measurement.scale for measurement in measured) and _is_staircase(finest.probe):
        return correct(
            varied, measured, "the forward is piecewise constant, and the gradient zero, as its derivative is"
        )
    moved = _measured_nearby(varied, low_precision=finest.probe.low_precision)
    if moved is not None:
        # What disagrees and is not confirmed has the resolution that its doubt leaves.
        moved = [confirm(measurement) for measurement in moved]
    for measurement in moved or ():
        if measurement.wrong:
            return _wrong(measurement, "found at a point close by, as the function has a kink at this one")
    if varied.point.coarse:
        return undecided(varied, _noise_reason(finest), finest)
    if moved is None or not any(m.resolved and not m.disagrees for m in moved):
        nearby = finest if moved is None else best(moved)
        reason = "the numerical derivative does not settle here, and not nearby either"
        return undecided(varied, _noise_reason(nearby) if moved and nearby.noisy else reason, nearby)
    if varied.point.finite is not None:
        return undecided(varied, "the output is not finite everywhere, and has a kink here", finest)
    return _at_kink(varied, moved, finest)


def _at_kink(varied: VariedOperand, moved: Sequence[Measurement], measured: Measurement) -> CheckResult:
    if not any(m.resolved for m in moved):
        return undecided(varied, "the function has no derivative here, and none that settles nearby", measured)
    bounds = bounds_at_kink(varied)
    share = f"{percent(bounds.share)} of the outputs have a kink here"
    if not bounds.share:
        share = "no output shows a kink here in the directions that were tried"
    if bounds.verdict == "inside":
        convention = "the gradient lies between the one-sided derivatives, as any convention may choose"
        return correct(varied, moved, f"{share}: {convention}; checked in full at a point close by")
    if bounds.verdict == "unmeasured" and _jumps(measured.probe):
        reason = "the forward jumps here, so it has no derivative (the gradient is right nearby)"
        return CheckResult.not_applicable(GRADIENT, reason, varied.name, details=_details(measured))
    if bounds.verdict == "unmeasured":
        reason = "most outputs have no one-sided derivative here that settles (the gradient is right nearby)"
        return undecided(varied, reason, measured)
    interval = f"{bounds.analytic:.6g} is not within [{bounds.low:.6g}, {bounds.high:.6g}]"
    if bounds.verdict == "unclear" or measured.probe.low_precision:
        outside = "several of them in one output, and the gradient is outside of the one-sided derivatives"
        return undecided(varied, f"{share}, {outside}: {interval} (it is right nearby)", measured)
    outside = f"and the gradient is not between the one-sided derivatives: {interval}, though it is right at points"
    reason = f"{share}, {outside} nearby"
    return CheckResult.wrong(
        GRADIENT,
        varied.name,
        reason=reason,
        mismatch=_mismatch_outside(varied, bounds),
        details={"one_sided_derivatives": [bounds.low, bounds.high]},
    )


def _mismatch_outside(varied: VariedOperand, bounds: Bounds) -> Mismatch:
    seconds = min(constants.KINK_SECONDS, constants.SHARE_FOR_LOCATING * varied.context.remaining)
    found = entries_outside(varied, seconds=seconds)
    nearest = min(max(bounds.analytic, bounds.low), bounds.high)
    allowed = constants.BOUND_SLACK * max(abs(nearest), bounds.high - bounds.low)
    return found or Mismatch.of_projection(bounds.analytic, nearest, allowed, total=varied.x.numel())


def _measured_nearby(varied: VariedOperand, *, low_precision: bool) -> list[Measurement] | None:
    """The measurements at a point close by, where kinks are elsewhere; None if the subject has no such point."""
    here = varied.point
    latest: list[Measurement] | None = None
    moves = constants.LOW_PRECISION_MOVES if low_precision else constants.MOVES
    for attempt, (direction, distance) in enumerate(moves):
        step = varied.draw("move", attempt) * distance * (varied.size if direction == "even" else varied.x.abs())
        x = varied.x + step.to(varied.x.dtype)
        values = {**here.values, varied.name: x if varied.finite is None else x.where(varied.finite, varied.x)}
        try:
            point = point_at(here.subject, values, varied.context)
        except SubjectError:
            continue
        moved = replace(varied, point=point)
        if point.outputs.numel() != here.outputs.numel():
            continue
        if not_finite_entries(moved) is not None:
            continue
        latest = measure_all(moved, "moved", attempt)
        if any(m.resolved for m in latest):
            return latest
    return latest


def not_finite(varied: VariedOperand) -> CheckResult | None:
    """NaN or infinity in a gradient is wrong where the function has a derivative, and where it has a kink.

    At a kink any value between the one-sided derivatives is a convention, but NaN lies between no two of them.
    Elsewhere (the edge of the domain, a vertical slope) it says nothing.
    """
    if varied.point.finite is not None:
        return None
    bad = not_finite_entries(varied)
    if bad is None:
        return None
    reason = f"{bad.numel()} of {varied.x.numel()} entries of the gradient are not finite"
    for index in bad[: constants.NOT_FINITE_ENTRIES].tolist():
        probe = DirectionalProbe(varied, varied.single(index))
        numeric = probe.derivative()
        if numeric is None or not numeric.settled or not math.isfinite(numeric.error):
            continue
        size = max(abs(numeric.value), constants.ZERO_DERIVATIVE_ROUNDINGS * probe.rounding)
        if numeric.error > constants.RESOLUTION * size:
            continue
        # A derivative along one entry is not enough: at rank deficiency, say, there is one along every entry.
        if not is_differentiable(varied):
            break
        return wrong_gradient(varied, start=numeric.start).with_fields(reason=reason)
    for index in bad[: constants.NOT_FINITE_ENTRIES].tolist():
        between = one_sided_derivatives(varied, index)
        if between is not None:
            return _not_finite_at_kink(varied, index, between, count=bad.numel())
    return undecided(
        varied,
        f"{reason}, where finite differences settle on no derivative either (the edge of the domain, a vertical slope, "
        "a point without a derivative)",
    )


def not_finite_entries(varied: VariedOperand) -> Tensor | None:
    """The flat indices of finite entries whose gradient is not finite; None if there are none."""
    gradient = varied.gradient
    if gradient is None or all_finite(gradient):
        return None
    bad = ~torch.isfinite(gradient)
    bad = (bad if varied.finite is None else bad & varied.finite).reshape(-1).nonzero().reshape(-1)
    return bad if bad.numel() else None


def _not_finite_at_kink(varied: VariedOperand, index: int, between: tuple[float, float], *, count: int) -> CheckResult:
    low, high = between
    value = float(varied.gradient.reshape(-1)[index]) if varied.gradient is not None else math.nan
    entries = f"{count} of {varied.x.numel()} entries"
    mismatch = Mismatch(
        index=tuple(int(i) for i in torch.unravel_index(torch.tensor(index), varied.x.shape)),
        analytic=value,
        numeric=(low + high) / 2,
        allowed=(high - low) / 2,
        count=count,
        total=varied.x.numel(),
    )
    word = "NaN" if math.isnan(value) else "infinite"
    return CheckResult.wrong(
        GRADIENT,
        varied.name,
        reason=f"{entries} of the gradient are not finite at a kink, where the derivatives to either side are: {word} "
        f"is not within [{low:.6g}, {high:.6g}]",
        mismatch=mismatch,
        diagnosis=f"The gradient of {varied.name!r} is {word} in {entries}, where the function has a kink.",
        details={"diagnosis_kind": "not-finite", "at_kink": True},
    )


def undecided(varied: VariedOperand, reason: str, measured: Measurement | None = None) -> CheckResult:
    """The gradient could not be decided, for this reason."""
    return CheckResult.undecided(
        GRADIENT,
        reason,
        varied.name,
        resolution=None if measured is None else measured.resolution,
        details={} if measured is None else _details(measured),
    )


def correct(varied: VariedOperand, measured: Sequence[Measurement], reason: str | None = None) -> CheckResult:
    """The gradient agrees in every measurement that is resolved; the reason holds what else is to say."""
    finest = best(measured)
    return CheckResult.correct(
        GRADIENT,
        varied.name,
        reason=reason,
        margin=max((m.margin for m in measured if m.resolved), default=0.0),
        resolution=finest.resolution,
        details=_details(finest),
    )


def _wrong(measured: Measurement, reason: str | None = None) -> CheckResult:
    """The gradient disagrees in this measurement, beyond doubt."""
    varied, numeric = measured.probe.varied, measured.numeric
    assert numeric is not None
    total = varied.x.numel()
    projected = Mismatch.of_projection(measured.analytic, numeric.value, measured.allowed, total=total)
    found = wrong_gradient(varied, start=numeric.start, projected=projected, reason=reason)
    details = {**_details(measured), **found.details}
    return found.with_fields(margin=measured.margin, resolution=measured.resolution, details=details)


def _details(measured: Measurement) -> dict[str, Any]:
    numeric = measured.numeric
    if numeric is None:
        return {}
    return {
        "direction": measured.direction,
        "analytic": measured.analytic,
        "numeric": numeric.value,
        "estimated_error": numeric.error,
        "rounding_floor": numeric.floor,
        "step": numeric.step,
        "dtype_checked": str(measured.probe.varied.x.dtype).removeprefix("torch."),
    }


def _jumps(probe: DirectionalProbe) -> bool:
    """Whether the forward changes by as much over the smallest steps, to one side at least, as over a larger one."""
    for sign in (1, -1):
        far, near, nearest = (probe.change(sign * step) for step in constants.JUMP_STEPS)
        least = max(constants.JUMP_ROUNDINGS * probe.rounding, constants.JUMP_SHARE * abs(far))
        if math.isfinite(far) and min(abs(near), abs(nearest)) > least:
            return True
    return False


def _is_staircase(probe: DirectionalProbe) -> bool:
    """Whether the forward is piecewise constant by itself, and not because some dtype rounds it."""
    if probe.quantization_step < constants.WIDE_QUANTIZATION_STEP:
        return False
    y = probe.outputs(constants.START)
    return not any(torch.equal(y.to(dtype).double(), y) for dtype in (torch.float32, torch.bfloat16, torch.float16))


def _is_nondeterministic(measured: Measurement) -> bool:
    return measured.probe.nondeterminism > constants.NONDETERMINISTIC * measured.probe.rounding


def _noise_reason(measured: Measurement) -> str:
    """What kind of noise keeps a measurement from being resolved, and how much there is of it."""
    probe = measured.probe
    if measured.stationary:
        return "noise: the outputs do not move, and the analytic derivative is too small to move them beyond rounding"
    if _is_nondeterministic(measured):
        level, size = max(probe.nondeterminism, probe.rounding), probe.natural
        return f"nondeterministic: identical calls differ by {level / size if size else level:.2g} of the output"
    return (
        f"noise: the forward's rounding leaves a relative resolution of {measured.resolution:.2g}, where "
        "something finer is needed"
    )
