"""What the tests of the diagnosis share."""

from __future__ import annotations

from torch import Tensor

from nn_from_scratch.verify.diagnosis import Diagnosis, DiagnosisContext, explain


def explained(analytic: Tensor | None, numeric: Tensor, **known: object) -> Diagnosis:
    """The diagnosis of a fault that has one."""
    diagnosis = explain(analytic, numeric, tolerance=1e-9, context=DiagnosisContext(**known))  # type: ignore[arg-type]
    assert diagnosis is not None
    return diagnosis
