"""The pytest plugin of a campaign's session, in the process that leads it and in its workers: the cases as tests.

The campaign's file is what pytest collects; nothing of anybody's tests takes part. A case that is late is ended with
its process, which xdist replaces: the trace of where it hung is what tells it from a crash.
"""

from __future__ import annotations

import faulthandler
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nn_from_scratch.cli.campaigns.checking import check_case
from nn_from_scratch.cli.campaigns.plan import CampaignCase, read_plan

__all__ = ["overdue_file"]


def overdue_file(folder: Path, case: str) -> Path:
    """Where a worker leaves the trace of a case that it had to end."""
    return folder / f"overdue-{case.replace('/', '-')}.txt"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the process that leads tells its workers."""
    parser.addoption("--campaign-file", type=Path)
    parser.addoption("--campaign-folder", type=Path)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the campaign itself."""
    given: Path = parent.config.getoption("--campaign-file")
    if file_path.resolve() == given.resolve():
        collected: pytest.Collector = _File.from_parent(parent, path=file_path)
        return collected
    return None


class _File(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        wanted = json.loads((self.config.getoption("--campaign-folder") / "waiting.json").read_text(encoding="utf-8"))
        for case in read_plan(self.path):
            if case.id in wanted:
                yield _Item.from_parent(self, name=case.id, case=case)


class _Item(pytest.Item):
    def __init__(self, *, case: CampaignCase, **rest: Any) -> None:
        super().__init__(**rest)
        self._case = case

    def runtest(self) -> None:
        if "PYTEST_XDIST_WORKER" not in os.environ:
            self._run()
            return
        path = overdue_file(self.config.getoption("--campaign-folder"), self._case.id)
        with path.open("w", encoding="utf-8") as trace:
            # In C and in a thread of its own: it also ends code that never lets go of the interpreter.
            faulthandler.dump_traceback_later(self._case.limit, exit=True, file=trace)
            try:
                self._run()
            finally:
                faulthandler.cancel_dump_traceback_later()
        path.unlink()

    def _run(self) -> None:
        result = check_case(self._case)
        self.user_properties.append(("campaign", json.dumps(result.to_json())))

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name
