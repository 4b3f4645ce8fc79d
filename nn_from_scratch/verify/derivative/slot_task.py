"""The task of checking one tensor's gradient, and the results that it can end in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nn_from_scratch.verify.comparison import Mismatch
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.findings import Finding, wrong_gradient
from nn_from_scratch.verify.derivative.measurements import Measurement, best
from nn_from_scratch.verify.derivative.points import Point
from nn_from_scratch.verify.protocol import Slot
from nn_from_scratch.verify.results import CheckResult

__all__ = ["GRADIENT", "NONDETERMINISTIC", "Task", "noise_reason"]

GRADIENT = "gradient"
NONDETERMINISTIC = 4.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One tensor's gradient at one point."""

    point: Point
    slot: Slot
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
        finding = Finding(
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
    level = max(point.jitter(row), measured.line.rounding(row))
    size = float(torch.linalg.vector_norm(point.cotangents[row] * point.outputs))
    if measured.still:
        return "noise: the outputs do not move, and the analytic derivative is too small to move them beyond rounding"
    if point.jitter(row) > NONDETERMINISTIC * measured.line.rounding(row):
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
