"""The lock under which one process alone measures."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

import pytest

from nn_from_scratch.bench.machine import alone


@pytest.fixture(autouse=True)
def _folder_of_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_who_waits_for_another_says_so_and_goes_on_when_that_has_ended() -> None:
    said: list[str] = []
    waiting, done = Event(), Event()

    def wait(words: str) -> None:
        said.append(words)
        waiting.set()

    def other() -> None:
        with alone(on_wait=wait):
            done.set()

    with alone(on_wait=said.append):
        assert not said
        thread = Thread(target=other)
        thread.start()
        assert waiting.wait(60) and not done.is_set()
    thread.join(60)
    assert done.is_set() and said == ["another process is measuring; this one waits until it has ended"]
    with alone(on_wait=said.append):
        assert len(said) == 1


def test_locks_of_two_names_do_not_wait_for_each_other() -> None:
    said: list[str] = []
    with alone(), alone("other", on_wait=said.append):
        assert not said
