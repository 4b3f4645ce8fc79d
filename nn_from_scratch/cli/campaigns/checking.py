"""One case of a campaign, verified: in a worker, and so with torch."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import asdict, dataclass
from typing import Any

from nn_from_scratch.cli.campaigns.plan import CampaignCase
from nn_from_scratch.errors import ArgumentError, NNFromScratchError

__all__ = ["VERDICTS", "CaseResult", "check_case"]

#: What may become of a case, worst first.
VERDICTS = ("wrong", "error", "undecided", "correct")


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """What became of a case.

    Attributes:
        case: its id.
        verdict: one of `VERDICTS`.
        message: one line that says why it is not correct; empty where it is.
        seconds: how long it took.
        text: the report as it is read; empty without one.
        report: the report as JSON values; None without one.
    """

    case: str
    verdict: str
    message: str = ""
    seconds: float = 0.0
    text: str = ""
    report: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def check_case(case: CampaignCase) -> CaseResult:
    """Verify a case; whatever goes wrong with it is its result."""
    import torch  # noqa: F401  # the first case in a process would seem to take seconds more

    began = time.monotonic()
    printed = io.StringIO()  # what a subject prints would tear the progress line
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            report = _report(case)
        except (NNFromScratchError, OSError) as error:
            message = " ".join(str(error).split())
            return CaseResult(case=case.id, verdict="error", message=message, seconds=time.monotonic() - began)
    values = report.to_dict()
    reasons = [result for result in report.results if str(result.verdict) == str(report.verdict)]
    message = "" if report.passed else str(reasons[0]) if reasons else "no check applies"
    return CaseResult(
        case=case.id,
        verdict=values["verdict"],
        message=" ".join(message.split()),
        seconds=time.monotonic() - began,
        text=str(report),
        report=values,
    )


def _report(case: CampaignCase) -> Any:
    import torch

    from nn_from_scratch.cli.target import dtype_of, load_target, make_subject
    from nn_from_scratch.cli.verify import draw
    from nn_from_scratch.verify import check

    subject: Any = make_subject(load_target(case.target), case.args, case.kwargs)
    if case.dtype is not None and not isinstance(getattr(torch, case.dtype, None), torch.dtype):
        raise ArgumentError(f"dtypes names {case.dtype!r}, but torch has no such dtype; float64 or float32, say")
    if case.dtype is not None and callable(getattr(subject, "to", None)) and hasattr(subject, "parameters"):
        subject.to(dtype=getattr(torch, case.dtype))
    dtype = case.dtype or dtype_of(subject)
    tensors = [draw(text, place=place, seed=case.seed, dtype=dtype) for place, text in enumerate(case.inputs)]
    inputs = [tensor.numpy() for tensor in tensors] if case.numpy else tensors
    return check(
        subject,
        *inputs,
        seed=case.seed,
        level=case.level,  # type: ignore[arg-type]  # checked by check
        checks=case.checks or None,
        time_limit=case.time_limit,
    )
