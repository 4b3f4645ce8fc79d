"""What the tests of the diagnosis share."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis import Diagnosis, DiagnosisContext, explain

__all__ = ["draw", "explained"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def explained(analytic: Tensor | None, numeric: Tensor, **known: object) -> Diagnosis:
    """The diagnosis of a fault that has one."""
    diagnosis = explain(analytic, numeric, tolerance=1e-9, context=DiagnosisContext(**known))  # type: ignore[arg-type]
    assert diagnosis is not None
    return diagnosis
