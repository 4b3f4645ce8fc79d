"""One projection of a gradient, analytic beside numeric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.differences import Derivative
from nn_from_scratch.verify.derivative.linearization import LinearizationPoint
from nn_from_scratch.verify.derivative.probes import DirectionalProbe, directional, directions

__all__ = ["Measurement", "best", "measure", "measure_all", "with_allowed"]

_RESOLUTION = 1e-3
_COARSE_RESOLUTION = 1e-2
_ENOUGH = 1e-9
_ROUNDINGS = 4.0
_ZERO_ROUNDINGS = 64.0
_ZERO_FLOORS = 1e4
_STILL = 64.0
_ZERO_SHARE = 1e-6


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
    line: DirectionalProbe
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
        eps = torch.finfo(line.x.dtype).eps * line.coarseness
        return self.difference <= _STILL * eps * v * float(torch.linalg.vector_norm(line.direction))

    @property
    def noisy(self) -> bool:
        """Whether rounding, noise or nondeterminism is what limits it."""
        return self.numeric is not None and self.numeric.error <= 8 * self.numeric.floor


def measure(
    point: LinearizationPoint,
    slot: str,
    name: str,
    direction: Tensor,
    context: CheckContext,
    *,
    row: int = 0,
    line: DirectionalProbe | None = None,
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
    line = line or DirectionalProbe(point, slot, direction, context)
    numeric = line.derivative(row, scale)
    rounding = _rounding(gradient) * scale
    allowed = context.factor * (rounding * line.coarseness + (numeric.error if numeric is not None else 0.0))
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


def measure_all(point: LinearizationPoint, slot: str, context: CheckContext, *names: object) -> list[Measurement]:
    """Measure one direction after the other with every cotangent, until one is enough (all of them at level "full")."""
    found: list[Measurement] = []
    for name, direction in directions(point.values[slot], slot, context, *names):
        line = DirectionalProbe(point, slot, direction, context)
        rows = range(len(point.gradients))
        found += [measure(point, slot, name, direction, context, row=row, line=line) for row in rows]
        if context.level == "quick" and all(m.resolved and m.resolution <= _ENOUGH for m in found):
            break
    return found


def with_allowed(measurement: Measurement, allowed: float, context: CheckContext) -> Measurement:
    """The same measurement with another tolerance.

    Args:
        measurement: The measurement.
        allowed: The largest |difference| that counts as agreement.
        context: Says which resolution is enough.
    """
    changed = replace(measurement, allowed=allowed)
    return replace(changed, resolved=_is_resolved(changed, context))


def _is_resolved(measurement: Measurement, context: CheckContext) -> bool:
    """Whether what is allowed is small beside the derivative, or the derivative is 0 up to the rounding of φ."""
    numeric, allowed = measurement.numeric, measurement.allowed
    if numeric is None or not numeric.settled or not math.isfinite(allowed):
        return False
    line, row = measurement.line, measurement.row
    own = torch.finfo(line.x.dtype).eps * line.coarseness > torch.finfo(torch.float64).eps
    limit = float(context.option("resolution", _COARSE_RESOLUTION if own else _RESOLUTION))
    size = max(measurement.scale, abs(numeric.value))
    if allowed <= limit * size:
        return True
    natural = float(torch.linalg.vector_norm(line.cotangents[row] * line.point.outputs))
    rounding = line.rounding(row)
    negligible = measurement.scale <= _ZERO_ROUNDINGS * rounding and abs(numeric.value) <= allowed
    return negligible and allowed <= max(_ZERO_SHARE * natural, _ZERO_FLOORS * rounding)


def _rounding(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else _ROUNDINGS * torch.finfo(gradient.dtype).eps


def best(measurements: Sequence[Measurement]) -> Measurement:
    """The measurement with the finest resolution, those that are resolved first."""
    return min(measurements, key=lambda m: (not m.resolved, m.resolution))
