"""A campaign as a whole: the session in memory, its workers, and the results on disk as they come."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from nn_from_scratch.cli.campaigns.checking import VERDICTS, CaseResult
from nn_from_scratch.cli.campaigns.plan import CampaignCase, fingerprint
from nn_from_scratch.cli.campaigns.plugin import overdue_file
from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.storage import write_atomically, write_json

__all__ = ["Campaign"]

_PACKAGE = Path(__file__).parents[2]
OnResult = Callable[[CaseResult, int, int], None]


class Campaign:
    """The cases of one file, and what has become of them.

    Args:
        path: the file.
        cases: what it holds, or some of that.
        folder: where results are kept as they come.
        jobs: worker processes; 0 for this process, without a limit of time and at the mercy of what crashes.

    Attributes:
        results: by case, as far as they are known.
        seconds: how long the last `run` took.
    """

    def __init__(self, path: Path, cases: Sequence[CampaignCase], folder: Path, *, jobs: int) -> None:
        self.path = path
        self.cases = list(cases)
        self.folder = folder
        self.jobs = jobs
        self.results: dict[str, CaseResult] = {}
        self.seconds = 0.0

    @property
    def status(self) -> int:
        """The exit status: 0 if all are correct, 1 if one is wrong, else 2 for an error and 3 for undecided."""
        found = {result.verdict for result in self.results.values()}
        worst = next((verdict for verdict in VERDICTS if verdict in found), "error")
        return {"wrong": 1, "error": 2, "undecided": 3, "correct": 0}[worst]

    @property
    def counts(self) -> dict[str, int]:
        """The number of cases of each verdict, zeros included."""
        counter = Counter(result.verdict for result in self.results.values())
        return {verdict: counter[verdict] for verdict in reversed(VERDICTS)}

    def run(self, *, resume: bool, on_result: OnResult) -> None:
        """Verify all that is not done yet.

        Args:
            resume: go on with what is in the folder; else it is emptied.
            on_result: called with each new result, how many are done, and of how many.

        Raises:
            ArgumentError: there is nothing to resume, or it belongs to another campaign or other sources.
            SubjectError: the session ended before all cases were done.
            KeyboardInterrupt: by Ctrl-C; what is done is kept.
        """
        began = time.monotonic()
        mark = fingerprint(self.path, self.cases)
        if resume:
            self._load(mark)
        elif self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        waiting = [case.id for case in self.cases if case.id not in self.results]
        write_json(self.folder / "campaign.json", {"fingerprint": mark, "cases": [case.id for case in self.cases]})
        write_json(self.folder / "waiting.json", waiting)
        if waiting:
            with (self.folder / "results.jsonl").open("a", encoding="utf-8") as file:

                def note(result: CaseResult) -> None:
                    if result.case not in self.results:
                        self.results[result.case] = result
                        file.write(json.dumps(result.to_json()) + "\n")
                        file.flush()
                        on_result(result, len(self.results), len(self.cases))

                status = self._session(_Recorder(self.folder, note))
            if status == pytest.ExitCode.INTERRUPTED and len(self.results) < len(self.cases):
                raise KeyboardInterrupt
        missing = [case.id for case in self.cases if case.id not in self.results]
        if missing:
            raise SubjectError(f"the session ended before {len(missing)} cases were done, the first is {missing[0]!r}")
        self.seconds = time.monotonic() - began

    def _session(self, recorder: _Recorder) -> int:
        settings = self.folder / "pytest.ini"
        settings.write_text("[pytest]\n", encoding="utf-8")
        arguments = [
            str(self.path),
            *("-c", str(settings), f"--rootdir={self.path.resolve().parent}", "--noconftest", "--capture=no"),
            *("-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:warnings"),
            *("-p", "nn_from_scratch.cli.campaigns.plugin"),
            *(f"--campaign-file={self.path.resolve()}", f"--campaign-folder={self.folder.resolve()}"),
        ]
        if self.jobs:
            # One case at a time goes to a worker: they take very different times.
            arguments += ["-p", "xdist.plugin", f"-n{self.jobs}", "--maxschedchunk=1", "--max-worker-restart=1000000"]
        # One thread each, as there is a process for every core; and nobody else's plugins.
        with _environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS="", OMP_NUM_THREADS="1"):
            return int(pytest.main(arguments, plugins=[recorder]))

    def _load(self, mark: str) -> None:
        path = self.folder / "campaign.json"
        if not path.is_file():
            raise ArgumentError(f"{str(self.folder)!r} holds no campaign to resume; leave out --resume to start one")
        if json.loads(path.read_text(encoding="utf-8"))["fingerprint"] != mark:
            raise ArgumentError(
                f"{str(self.folder)!r} holds another campaign, or one over other sources; leave out --resume to start "
                "anew"
            )
        file = self.folder / "results.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.is_file() else []
        whole = [line for line in lines if line.endswith("\n")]
        for line in whole:
            result = CaseResult(**json.loads(line))
            self.results[result.case] = result
        if whole != lines:  # a kill has cut the last one off: it is done again, on a line of its own
            write_atomically(file, "".join(whole).encode())


class _Recorder:
    """Takes the results from the session's reports."""

    def __init__(self, folder: Path, note: Callable[[CaseResult], None]) -> None:
        self._folder = folder
        self._note = note

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found: dict[str, Any] = dict(report.user_properties)
        if "campaign" in found:
            self._note(CaseResult(**json.loads(found["campaign"])))
        elif report.failed:
            self._note(self._ended(report))

    def _ended(self, report: pytest.TestReport) -> CaseResult:
        """What no check has reported: the process has ended, or an exception that is a fault of this program."""
        case = report.nodeid.partition("::")[2]
        trace = overdue_file(self._folder, case)
        text = trace.read_text(encoding="utf-8") if trace.is_file() else ""
        if text:
            message = "the limit of time of this case was reached"
            return CaseResult(case=case, verdict="undecided", message=message, text=_where(text))
        lines = str(report.longrepr).strip().splitlines()
        crashed = str(report.when) == "???"  # as xdist says it
        message = "the process that verified it crashed" if crashed else lines[-1] if lines else "no report"
        return CaseResult(case=case, verdict="error", message=message, text="" if crashed else str(report.longrepr))


def _where(trace: str) -> str:
    """Of the traces of all threads the frames of the code that was verified, innermost first."""
    threads = trace.split("\n\n")
    working = next((thread for thread in threads if " in perform" in thread), threads[-1])
    frames = [line for line in working.splitlines() if line.startswith("  File ")]
    own = list(takewhile(lambda line: str(_PACKAGE) not in line, frames)) or frames[:5]
    return "\n".join(["it was here, innermost first:", *own])


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
