"""Check any hand-written backward pass, and say what is wrong with it.

`check(subject, *inputs)` gives a `Report`; `explain(analytic, numeric)` names the fault of a gradient alone.
The names are loaded when they are first used, so that importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nn_from_scratch.verify.context import CheckContext
    from nn_from_scratch.verify.diagnosis import explain
    from nn_from_scratch.verify.results import CheckResult, Mismatch, Report, Verdict
    from nn_from_scratch.verify.subjects import as_subject
    from nn_from_scratch.verify.verification import check, check_names

__all__ = [
    "CheckContext",
    "CheckResult",
    "Mismatch",
    "Report",
    "Verdict",
    "as_subject",
    "check",
    "check_names",
    "explain",
]

_HOMES = {
    "CheckContext": "context",
    "CheckResult": "results",
    "Mismatch": "results",
    "Report": "results",
    "Verdict": "results",
    "as_subject": "subjects",
    "check": "verification",
    "check_names": "verification",
    "explain": "diagnosis",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
