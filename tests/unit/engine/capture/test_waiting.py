"""Waiting without sleep."""

from __future__ import annotations

import threading

import pytest
import torch

from nn_from_scratch.bench.counts import _Operators
from nn_from_scratch.engine.capture import waiting
from nn_from_scratch.engine.capture.waiting import Bell, as_written


def test_a_ring_before_or_while_somebody_waits_is_heard_once() -> None:
    bell = Bell()
    bell.ring()
    assert bell.wait() and not bell.wait()
    bell.ring()
    assert bell.wait(lingering=0) and not bell.wait(lingering=0)
    for _ in range(3):
        bell.ring()
        assert bell.wait()


def test_what_is_forgotten_is_not_heard() -> None:
    bell = Bell()
    bell.ring()
    bell.forget()
    assert not bell.wait()


def test_waiting_keeps_no_other_thread_from_running_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 1 << 40)  # for hours, if nobody rings
    bell, heard = Bell(), []
    thread = threading.Thread(target=lambda: heard.append(bell.wait()))
    thread.start()
    bell.ring()
    thread.join(timeout=60)
    assert heard == [True]


def test_nobody_who_counts_operators_sees_who_waits() -> None:
    bell = Bell()
    bell.wait()  # the loop is there
    with _Operators() as mode:
        assert not bell.wait()
    assert mode.count == 0


def test_without_torchs_internal_ways_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "parse_ir")
    waiting._loop.cache_clear()
    try:
        bell = Bell()
        bell.ring()
        assert not bell.wait()
        assert bell.wait(lingering=0)  # to look costs nothing
    finally:
        waiting._loop.cache_clear()


def test_a_function_is_run_as_it_is_written() -> None:
    found = []
    before = torch._C._get_graph_executor_optimize()

    def note() -> None:
        found.append(torch._C._get_graph_executor_optimize())
        raise ValueError("noted")

    try:
        for optimizes in (True, False):
            torch._C._set_graph_executor_optimize(optimizes)
            with pytest.raises(ValueError, match="noted"):
                as_written(note)()
            assert torch._C._get_graph_executor_optimize() is optimizes
    finally:
        torch._C._set_graph_executor_optimize(before)
    assert found == [False, False]
