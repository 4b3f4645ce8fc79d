"""A measurement in words and numbers: what a result says of it."""

from __future__ import annotations

from typing import Any

import torch

from nn_from_scratch.verify.comparison import Mismatch
from nn_from_scratch.verify.measurements import Measurement

__all__ = ["details", "is_nondeterministic", "noise_reason", "projected"]

_NONDETERMINISTIC = 4.0


def projected(measured: Measurement) -> Mismatch:
    """The disagreement of one projection, before any entry was looked at."""
    assert measured.numeric is not None
    return Mismatch(
        index=None,
        analytic=measured.analytic,
        numeric=measured.numeric.value,
        allowed=measured.allowed,
        count=None,
        total=measured.line.x.numel(),
    )


def is_nondeterministic(measured: Measurement) -> bool:
    """Whether identical calls differ by more than rounding explains."""
    jitter = measured.line.point.jitter(measured.row)
    return jitter > _NONDETERMINISTIC * measured.line.rounding(measured.row)


def noise_reason(measured: Measurement) -> str:
    """Why rounding, noise or nondeterminism leaves a measurement undecided, with its level."""
    point, row = measured.line.point, measured.row
    level = max(point.jitter(row), measured.line.rounding(row))
    size = float(torch.linalg.vector_norm(point.cotangents[row] * point.outputs))
    if measured.still:
        return "noise: the outputs do not move, and the analytic derivative is too small to move them beyond rounding"
    if is_nondeterministic(measured):
        return f"nondeterministic: identical calls differ by {level / size if size else level:.2g} of the output"
    return (
        f"noise: the forward's rounding leaves a relative resolution of {measured.resolution:.2g}, where "
        "something finer is needed"
    )


def details(measured: Measurement | None) -> dict[str, Any]:
    """What a measurement is worth keeping for, by name."""
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
