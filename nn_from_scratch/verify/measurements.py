"""One projection of a gradient, analytic beside numeric, and what has to be true before it accuses anybody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.differences import Derivative
from nn_from_scratch.verify.lines import Line, directional, directions
from nn_from_scratch.verify.points import Point

__all__ = ["Judgement", "Measurement", "best", "judge", "measure", "measure_all"]

RESOLUTION = 1e-3
_ENOUGH = 1e-9
_ROUNDINGS = 4.0
_ZERO_FLOORS = 1e4
_STILL = 1e-14
_ZERO_SHARE = 1e-6
_STARTS = (0.8, 0.62, 0.47, 1.27, 0.11)
_CONFIRMATIONS = 3
_CLOSE_ATTEMPTS = 6
_COARSE_STAIR = 1e-6
_CLOSE = 1e-5
_COTANGENT_MOVE = 0.1
_SMALLEST_START = 1e-11
_NOISE_SHARE = 1e5
_NOISE_FLOOR = 1e4


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One directional derivative, analytic and numeric.

    Attributes:
        direction: The name of the direction.
        row: Which cotangent.
        line: The line along which it was measured.
        analytic: <g, u>.
        numeric: φ'(0); None if φ is finite nowhere near 0.
        allowed: The largest |difference| that counts as agreement.
        scale: The size of the derivative: the root of the sum of the squares of its terms.
        resolved: Whether `allowed` is small enough beside `scale` to mean anything.
    """

    direction: str
    row: int
    line: Line
    analytic: float
    numeric: Derivative | None
    allowed: float
    scale: float
    resolved: bool

    @property
    def difference(self) -> float:
        """|analytic - numeric|."""
        return float("inf") if self.numeric is None else abs(self.analytic - self.numeric.value)

    @property
    def disagrees(self) -> bool:
        """Whether the difference is more than is allowed."""
        return self.numeric is not None and self.numeric.settled and not self.difference <= self.allowed

    @property
    def margin(self) -> float:
        """|difference| / allowed."""
        return self.difference / self.allowed if self.allowed else float(self.difference > 0)

    @property
    def resolution(self) -> float:
        """The smallest relative error of the whole gradient that this measurement could have seen."""
        if self.numeric is None:
            return float("inf")
        size = max(self.scale, abs(self.numeric.value))
        return self.allowed / size if size else 0.0

    @property
    def still(self) -> bool:
        """Whether φ does not move at all, where the analytic derivative is small enough to be lost in rounding.

        An output that is a difference of larger intermediate values has their rounding error, not its own.
        """
        line = self.line
        if self.numeric is None or self.numeric.value != 0 or self.numeric.error > 2 * self.numeric.floor:
            return False
        v = float(torch.linalg.vector_norm(line.cotangents[self.row]))
        return self.difference <= _STILL * v * float(torch.linalg.vector_norm(line.direction))

    @property
    def noisy(self) -> bool:
        """Whether rounding, noise or nondeterminism is what limits it."""
        return self.numeric is not None and self.numeric.error <= 8 * self.numeric.floor


def measure(
    point: Point,
    slot: str,
    name: str,
    direction: Tensor,
    context: CheckContext,
    *,
    row: int = 0,
    line: Line | None = None,
) -> Measurement:
    """Measure the derivative along one direction.

    Args:
        point: Where.
        slot: The tensor.
        name: The direction's name.
        direction: u.
        context: Factor, options and deadline.
        row: Which of the point's cotangents.
        line: A line along that direction with values already computed.
    """
    gradient = point.gradient(slot, row)
    if gradient is not None and point.finite is not None:
        # The backward of an output that is not finite may be 0 * inf = NaN: such entries say nothing.
        direction = torch.where(torch.isfinite(gradient), direction, 0.0)
        gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        line = None
    analytic, scale = directional(gradient, direction)
    line = line or Line(point, slot, direction, context)
    numeric = line.derivative(row, scale)
    rounding = _rounding(gradient) * scale
    allowed = context.factor * (rounding + (numeric.error if numeric is not None else 0.0))
    measured = Measurement(
        direction=name,
        row=row,
        line=line,
        analytic=analytic,
        numeric=numeric,
        allowed=allowed,
        scale=scale,
        resolved=False,
    )
    return replace(measured, resolved=_is_resolved(measured, context))


def measure_all(point: Point, slot: str, context: CheckContext, *names: object) -> list[Measurement]:
    """Measure one direction after the other with every cotangent, until one is enough (all of them at level "full")."""
    found: list[Measurement] = []
    for name, direction in directions(point.values[slot], slot, context, *names):
        line = Line(point, slot, direction, context)
        rows = range(len(point.gradients))
        found += [measure(point, slot, name, direction, context, row=row, line=line) for row in rows]
        if context.level == "quick" and all(m.resolved and m.resolution <= _ENOUGH for m in found):
            break
    return found


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What remains of a disagreement.

    Attributes:
        wrong: Whether it is beyond doubt.
        measurement: The measurement, with whatever more has to be allowed.
    """

    wrong: bool
    measurement: Measurement


def judge(measurement: Measurement, context: CheckContext) -> Judgement:
    """Find out whether a disagreement is beyond doubt.

    The difference has to be larger than the noise of the analytic gradient itself; the numerical value has to be
    reproduced with other steps, down to the smallest that can tell; and the disagreement has to appear along
    a fresh direction too. None of this is asked of a gradient that agrees.

    Args:
        measurement: A measurement.
        context: Factor and deadline.
    """
    if not measurement.disagrees:
        return Judgement(wrong=False, measurement=measurement)
    measurement = _with_allowed(
        measurement, measurement.allowed + context.factor * _analytic_noise(measurement, context), context
    )
    if not measurement.disagrees:
        return Judgement(wrong=False, measurement=measurement)
    doubt = 2 * measurement.difference if measurement.still else _not_reproduced(measurement, context)
    if doubt is not None:
        return Judgement(wrong=False, measurement=_with_allowed(measurement, doubt, context))
    if any(_fresh_disagrees(measurement, context, attempt) for attempt in range(2)):
        return Judgement(wrong=True, measurement=measurement)
    return Judgement(wrong=False, measurement=_with_allowed(measurement, 2 * measurement.difference, context))


def _not_reproduced(measurement: Measurement, context: CheckContext) -> float | None:
    """None if other steps give the same derivative; else the error that they show the first one to have."""
    numeric, line, factor = measurement.numeric, measurement.line, context.factor
    assert numeric is not None
    rounding = measurement.allowed - factor * numeric.error
    confirmed = 0
    for share in _STARTS:
        other = line.table(measurement.row, share * numeric.start)
        if other is None or not other.settled:
            continue
        if abs(measurement.analytic - other.value) > factor * other.error + rounding:
            confirmed += 1
        elif abs(other.value - numeric.value) > factor * (other.error + numeric.error):
            return factor * abs(other.value - numeric.value)
    if confirmed < _CONFIRMATIONS:
        return 2 * measurement.difference
    if not measurement.scale and line.stair() > _COARSE_STAIR:
        return 2 * measurement.difference
    start = 64 * factor * max(line.rounding(measurement.row), line.point.jitter(measurement.row))
    start = max(start / measurement.difference, line.finest(), _SMALLEST_START)
    settled = True
    for _ in range(_CLOSE_ATTEMPTS):
        if start > 0.05 * numeric.start:
            break
        other = line.table(measurement.row, start)
        settled = other is not None and other.settled
        if other is not None and other.settled:
            reach = factor * other.error + rounding
            if abs(numeric.value - other.value) > reach + factor * numeric.error:
                return 2 * measurement.difference
            if abs(measurement.analytic - other.value) > reach:
                return None
        start *= 16
    return None if settled else 2 * measurement.difference


def _with_allowed(measurement: Measurement, allowed: float, context: CheckContext) -> Measurement:
    changed = replace(measurement, allowed=allowed)
    return replace(changed, resolved=_is_resolved(changed, context))


def _is_resolved(measurement: Measurement, context: CheckContext) -> bool:
    """Whether what is allowed is small beside the derivative, or the derivative is 0 up to the rounding of φ."""
    numeric, allowed = measurement.numeric, measurement.allowed
    if numeric is None or not numeric.settled or not math.isfinite(allowed):
        return False
    limit = float(context.option("resolution", RESOLUTION))
    size = max(measurement.scale, abs(numeric.value))
    if allowed <= limit * size:
        return True
    line, row = measurement.line, measurement.row
    natural = float(torch.linalg.vector_norm(line.cotangents[row] * line.point.outputs))
    negligible = max(measurement.scale, abs(numeric.value)) <= max(allowed, _ZERO_FLOORS * line.rounding(row))
    return negligible and allowed <= max(_ZERO_SHARE * natural, _ZERO_FLOORS * line.rounding(row))


def _fresh_disagrees(measurement: Measurement, context: CheckContext, attempt: int) -> bool:
    point, slot = measurement.line.point, measurement.line.slot
    fresh = dict(directions(point.values[slot], slot, context, "confirmation", attempt))
    again = measure(point, slot, measurement.direction, fresh[measurement.direction], context, row=measurement.row)
    return again.disagrees


def _analytic_noise(measurement: Measurement, context: CheckContext) -> float:
    """The standard error of <g, u> from rounding inside the backward.

    Third and fourth differences of g over five points close together, at each of which the cotangent is another one as
    well: g is linear in it, so that it may move far. More than rounding can explain is no excuse.
    """
    line, numeric, row = measurement.line, measurement.numeric, measurement.row
    assert numeric is not None
    named = line.point.named_cotangents[row]
    moves = context.cotangents(named, "noise")
    rows = []
    for k in range(1, 6):
        x = torch.add(line.x, line.u, alpha=k * _CLOSE * numeric.start)
        cotangents = {name: v + (_COTANGENT_MOVE * k) * v.abs() * moves[name] for name, v in named.items()}
        gradient = line.point.gradient(line.slot, row, {line.slot: x}, cotangents)
        rows.append(torch.zeros_like(line.direction) if gradient is None else gradient.detach().double())
    a, b, c, d, e = rows
    thirds = (a - 3 * b + 3 * c - d).square() / 20 + (b - 3 * c + 3 * d - e).square() / 20
    noise = ((thirds + (a - 4 * b + 6 * c - 4 * d + e).square() / 70) / 3).sqrt()
    size = float(line.cotangents[row].abs().mean())
    eps = torch.finfo(line.x.dtype).eps
    limit = eps * max(_NOISE_SHARE * float(torch.stack(rows).abs().max()), _NOISE_FLOOR * size)
    return float(torch.linalg.vector_norm(torch.where(noise <= limit, noise, 0.0) * line.direction))


def _rounding(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else _ROUNDINGS * torch.finfo(gradient.dtype).eps


def best(measurements: Sequence[Measurement]) -> Measurement:
    """The measurement with the finest resolution, those that are resolved first."""
    return min(measurements, key=lambda m: (not m.resolved, m.resolution))
