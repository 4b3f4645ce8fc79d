"""The pytest plugin of a campaign's session, in the process that leads it and in its workers: cases are its tests.

The campaign's file is what pytest collects; no other tests take part. A case that is late is ended with its process,
which xdist replaces: the trace of where it hung is what tells it from a crash.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nn_from_scratch.cli.campaign_file import CampaignCase, read_campaign
from nn_from_scratch.errors import ArgumentError, NNFromScratchError

if TYPE_CHECKING:
    from nn_from_scratch.verify import Report


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """The result of verifying one case.

    Attributes:
        case: its id.
        verdict: "correct", "wrong", "fragile", "undecided", "limit" or "error".
        passed: whether the verification passed; what is fragile may, if that is only to be reported.
        message: one line that says why it is not correct; empty where it is.
        text: the report as it is read; empty without one.
        report: the report as JSON values; None without one.
    """

    case: str
    verdict: str
    passed: bool = False
    message: str = ""
    seconds: float = 0.0
    text: str = ""
    report: dict[str, Any] | None = None


def read_settings(folder: Path) -> dict[str, Any]:
    """The fingerprint of the campaign that is kept in this folder, and the ids of the cases that wait."""
    settings: dict[str, Any] = json.loads((folder / "campaign.json").read_text(encoding="utf-8"))
    return settings


def overdue_file(folder: Path, case: str) -> Path:
    """Where a worker leaves the trace of a case that it had to end."""
    return folder / f"overdue-{case.replace('/', '-')}.txt"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the campaign itself."""
    if not parent.session.isinitpath(file_path):
        return None
    collected: pytest.Collector = _CampaignFile.from_parent(parent, path=file_path)
    return collected


class _CampaignFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        waiting = set(read_settings(_folder(self.config))["waiting"])
        for case in read_campaign(self.path):
            if case.id in waiting:
                yield _CaseItem.from_parent(self, name=case.id, case=case)


class _CaseItem(pytest.Item):
    def __init__(self, *, case: CampaignCase, **rest: Any) -> None:
        super().__init__(**rest)
        self._case = case

    def runtest(self) -> None:
        if not hasattr(self.config, "workerinput"):  # without xdist: to end the process would end the campaign
            self._verify()
            return
        path = overdue_file(_folder(self.config), self._case.id)
        with path.open("w", encoding="utf-8") as trace:
            # In C and in a thread of its own: it also ends code that never lets go of the interpreter.
            faulthandler.dump_traceback_later(self._case.limit, exit=True, file=trace)
            try:
                self._verify()
            finally:
                faulthandler.cancel_dump_traceback_later()
        path.unlink()

    def _verify(self) -> None:
        self.user_properties.append(("campaign", json.dumps(asdict(_check(self._case)))))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def _folder(config: pytest.Config) -> Path:
    assert config.inipath is not None  # the session is started with settings in the campaign's folder
    return config.inipath.parent


def _check(case: CampaignCase) -> CaseResult:
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
    from nn_from_scratch.verify import Verdict

    reasons = [str(result) for result in report.results if result.verdict == report.verdict]
    message = "" if report.verdict is Verdict.CORRECT else " ".join([*reasons, "no check applies"][0].split())
    return CaseResult(
        case=case.id,
        verdict=str(report.verdict),
        passed=report.passed,
        message=message,
        seconds=time.monotonic() - began,
        text=str(report),
        report=report.to_dict(),
    )


def _report(case: CampaignCase) -> Report:
    import torch

    from nn_from_scratch.cli.target import arrange_call, draw_inputs, load_surrogate, load_target, make_subject
    from nn_from_scratch.verify import check

    target = load_target(case.target)
    subject: Any = make_subject(target, case.args, case.kwargs)
    if case.dtype is not None and not isinstance(getattr(torch, case.dtype, None), torch.dtype):
        raise ArgumentError(f"dtypes names {case.dtype!r}, but torch has no such dtype; float64 or float32, say")
    if case.dtype is not None and callable(getattr(subject, "to", None)) and hasattr(subject, "parameters"):
        subject.to(dtype=getattr(torch, case.dtype))
    inputs: list[object] = draw_inputs(case.inputs, subject, seed=case.seed, dtype=case.dtype, numpy=case.numpy)
    keywords: dict[str, object] = {}
    if subject is target:  # nothing was made with the arguments: they are those of the call
        inputs, keywords = arrange_call(subject, inputs, case.args, case.kwargs)
    return check(
        subject,
        *inputs,
        keywords=keywords or None,
        surrogate=load_surrogate(case.surrogate) if case.surrogate else None,
        seed=case.seed,
        level=case.level,  # type: ignore[arg-type]  # checked by check
        checks=case.checks or None,
        time_limit=case.time_limit,
        fragile=case.fragile,  # type: ignore[arg-type]  # checked by check
        strict=case.strict,
    )
