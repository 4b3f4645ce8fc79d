"""Threads that do pieces of work at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch

import nn_from_scratch as nn
from nn_from_scratch.engine.capture import waiting
from nn_from_scratch.engine.capture.team import Task, Team, team_of


@pytest.fixture(params=["awake", "asleep", "no loop"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """Two threads, the other of which waits awake, or goes to sleep at once, or cannot wait awake."""
    if request.param == "asleep":
        monkeypatch.setattr(waiting, "PATIENCE", 0)
    elif request.param == "no loop":
        monkeypatch.setattr(waiting, "_loop", lambda: None)
    found = Team(2)
    yield found
    found.end()


def test_a_team_works_at_the_same_time_with_a_thread_each() -> None:
    meeting = threading.Barrier(3, timeout=20)
    before = torch.get_num_threads()

    def work() -> tuple[int, int]:
        meeting.wait()  # all three are here, or none gets on
        return threading.get_ident(), torch.get_num_threads()

    torch.set_num_threads(2)
    try:
        found = Team(3).together([work] * 3)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found[0][0] == threading.get_ident() and len({ident for ident, _ in found}) == 3
    assert [threads for _, threads in found] == [1, 1, 1]


@pytest.mark.parametrize("place", [0, 1])
def test_an_error_ends_no_thread_and_leaves_none_running(place: int, pair: Team) -> None:
    done = []

    def fail() -> None:
        raise ValueError("no")

    def work() -> None:
        done.append(1)

    with pytest.raises(ValueError, match="no"):
        pair.together([fail, work] if place == 0 else [work, fail])
    assert done == [1]
    assert pair.together([lambda: 1, lambda: 2]) == [1, 2]


def test_work_is_done_again_and_again(pair: Team) -> None:
    for number in range(30):
        assert pair.together([partial(int, number), partial(int, -number)]) == [number, -number]


def test_one_piece_of_work_is_done_here() -> None:
    assert Team(1).together([threading.get_ident]) == [threading.get_ident()]


@pytest.mark.parametrize("rings", [True, False])
def test_a_task_is_over_when_it_has_been_waited_for(rings: bool, pair: Team) -> None:
    found: list[int] = []

    def work() -> None:
        found.append(len(found))
        if len(found) == 3:
            raise ValueError("the third")
        if rings:
            pair.bells[0].ring()

    task = Task(work, rings=rings)
    with pair.at_work():
        for number in range(6):
            pair.start([task])
            if number == 2:
                with pytest.raises(ValueError, match="the third"):
                    pair.wait([task])
            else:
                pair.wait([task])
            assert len(found) == number + 1


@pytest.mark.parametrize("place", ["_hand_over", "wait"])
def test_an_interrupt_leaves_the_team_at_work(place: str, pair: Team) -> None:
    member = pair._others[0]
    go = threading.Event()

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member, place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            pair.together([go.is_set, go.wait])  # the other one goes on with that, if it had begun
    go.set()
    for _ in range(3):
        assert pair.together([lambda: 1, lambda: 2]) == [1, 2]


def test_what_was_handed_over_is_done_before_anything_else(pair: Team) -> None:
    member, done = pair._others[0], list[int]()
    for number in range(5):
        member.give(Task(partial(done.append, number)))
    assert pair.together([lambda: 1, lambda: 2]) == [1, 2]
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("way", ["awake", "asleep"])
def test_a_process_ends_while_a_member_waits(way: str) -> None:
    text = f"""
from nn_from_scratch.engine.capture import waiting
waiting.PATIENCE = {0 if way == "asleep" else 1 << 40}
from nn_from_scratch.engine.capture.team import team_of
print(team_of(3).together([lambda: 1, lambda: 2, lambda: 3]))
"""
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "[1, 2, 3]\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    model = nn.Linear(3, 2)
    step = nn.TrainingStep(model, nn.MSE(), nn.SGD(model, lr=0.1), workers=2)
    for _ in range(3):  # the last one is replayed
        step(torch.ones(4, 3), torch.ones(4, 2))
    child = os.fork()
    if child == 0:
        before = model.weight.clone()
        step(torch.ones(4, 3), torch.ones(4, 2))
        os._exit(0 if team_of(2).together([int, float]) == [0, 0.0] and not torch.equal(model.weight, before) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert team_of(2).together([int, float]) == [0, 0.0]
