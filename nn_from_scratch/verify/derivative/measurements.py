"""One projection of a gradient, analytic beside numeric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.differences import Derivative
from nn_from_scratch.verify.derivative.probes import DirectionalProbe, VariedOperand, directional

__all__ = ["Measurement", "best", "measure", "measure_all"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One directional derivative, analytic and numeric.

    Attributes:
        direction: The name of the direction.
        probe: The direction in which it was measured.
        analytic: <g, u>.
        numeric: φ'(0); None if φ is finite nowhere near 0.
        allowed: The largest |difference| that counts as agreement.
        scale: The size of the derivative: the root of the sum of the squares of its terms.
        wrong: Whether a disagreement is beyond doubt; `confirm` finds out.
    """

    direction: str
    probe: DirectionalProbe
    analytic: float
    numeric: Derivative | None
    allowed: float
    scale: float
    wrong: bool = False

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
    def stationary(self) -> bool:
        """Whether φ does not move at all, where the analytic derivative is small enough to be lost in rounding.

        An output that is a difference of larger intermediate values has their rounding error, not its own.
        """
        if self.numeric is None or self.numeric.value != 0 or self.numeric.error > 2 * self.numeric.floor:
            return False
        v = float(torch.linalg.vector_norm(self.probe.varied.cotangent))
        u = float(torch.linalg.vector_norm(self.probe.direction))
        return self.difference <= constants.STATIONARY_ROUNDINGS * self.probe.eps * v * u

    @property
    def noisy(self) -> bool:
        """Whether rounding, noise or nondeterminism is what limits it."""
        return self.numeric is not None and self.numeric.noisy

    @cached_property
    def resolved(self) -> bool:
        """Whether what is allowed is small beside the derivative, or the derivative is 0 up to the rounding of φ."""
        numeric, allowed, probe = self.numeric, self.allowed, self.probe
        if numeric is None or not numeric.settled or not math.isfinite(allowed):
            return False
        coarser = probe.eps > torch.finfo(torch.float64).eps
        default = constants.LOW_PRECISION_RESOLUTION if coarser else constants.RESOLUTION
        limit = float(probe.varied.context.option("resolution", default))
        if allowed <= limit * max(self.scale, abs(numeric.value)):
            return True
        if self.scale > constants.NEGLIGIBLE_ROUNDINGS * probe.rounding or abs(numeric.value) > allowed:
            return False
        return allowed <= max(
            constants.NEGLIGIBLE_SHARE * probe.natural, constants.NEGLIGIBLE_ALLOWED_ROUNDINGS * probe.rounding
        )

    def allowing(self, allowed: float) -> Measurement:
        """The same measurement with another tolerance."""
        return replace(self, allowed=allowed)


def measure(varied: VariedOperand, name: str, u: Tensor, *, probe: DirectionalProbe | None = None) -> Measurement:
    """Measure the derivative along one direction, perhaps with a probe that has values already."""
    gradient = varied.gradient
    if gradient is not None and varied.point.finite is not None:
        # The backward of an output that is not finite may be 0 * inf = NaN: such entries say nothing.
        u = torch.where(torch.isfinite(gradient), u, 0.0)
        gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        probe = None
    analytic, scale = directional(gradient, u)
    probe = probe or DirectionalProbe(varied, u)
    numeric = probe.derivative(scale)
    error = varied.gradient_eps * scale * probe.coarseness + (0.0 if numeric is None else numeric.error)
    allowed = varied.context.factor * error
    return Measurement(direction=name, probe=probe, analytic=analytic, numeric=numeric, allowed=allowed, scale=scale)


def measure_all(varied: VariedOperand, *names: object) -> list[Measurement]:
    """Measure one direction after the other with every cotangent, until one is enough (all of them at level "full")."""
    found: list[Measurement] = []
    for name, direction in varied.directions(*names):
        first = DirectionalProbe(varied, direction)
        for row in range(len(varied.point.gradients)):
            probe = first.for_row(row) if row else first
            found.append(measure(probe.varied, name, direction, probe=probe))
        resolved = all(m.resolved and m.resolution <= constants.ENOUGH for m in found)
        if varied.context.level == "quick" and resolved:
            break
    return found


def best(measurements: Sequence[Measurement]) -> Measurement:
    """The measurement with the finest resolution, those that are resolved first."""
    return min(measurements, key=lambda m: (not m.resolved, m.resolution))
