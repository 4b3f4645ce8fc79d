import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify import Verdict, check, constants
from nn_from_scratch.verify.context import TimeLimitReached
from nn_from_scratch.verify.deadlines import LimitedThread
from tests.functions import function


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "PATIENCE", 0.1)


def never(g: Tensor, x: Tensor) -> Tensor:
    while True:
        time.sleep(0.01)


endless = function(lambda x: 2 * x, never)


def x() -> Tensor:
    return torch.arange(6.0).reshape(2, 3) - 2.3


def test_a_backward_that_never_returns_is_undecided() -> None:
    report = check(endless, x(), checks="gradient", time_limit=0.3)
    assert report.verdict is Verdict.UNDECIDED
    assert report.results[0].reason == "it did not return within the time limit of 0.3 s"


def test_a_forward_that_never_returns_is_an_error() -> None:
    def forward(x: Tensor) -> Tensor:
        while True:
            time.sleep(0.01)

    with pytest.raises(SubjectError, match="did not return in time"):
        check(forward, x(), time_limit=0.2)


def test_after_a_call_that_does_not_return_no_further_check_is_waited_for() -> None:
    first, second = check(endless, x(), checks="gradient,complex_step", time_limit=0.2).results
    assert first.verdict is second.verdict is Verdict.UNDECIDED
    assert second.reason == "a call of the subject in an earlier check has not returned yet"


def test_a_check_elsewhere_that_does_not_return_says_nothing_about_the_gradient() -> None:
    def slow_far_out(x: Tensor) -> Tensor:
        while bool((x.abs() > 30).any()):
            time.sleep(0.01)
        return x.square()

    report = check(slow_far_out, x(), checks="gradient,special_values,hidden_infinities", time_limit=2)
    assert report.passed
    late = [result.reason for result in report.results if result.verdict is Verdict.NOT_APPLICABLE]
    assert late == [
        "it did not return within the time limit of 2 s",
        "a call of the subject in an earlier check has not returned yet",
    ]


def test_a_late_check_ends_between_two_calls_and_never_within_one() -> None:
    begun, ended = [], []

    def slow(x: Tensor) -> Tensor:
        begun.append(x)
        for _ in range(100):
            time.sleep(0.001)
        ended.append(x)
        return x.square()

    report = check(slow, x(), checks="gradient,determinism,complex_step", time_limit=0.5)
    assert report.verdict is Verdict.UNDECIDED
    assert len(begun) == len(ended) > 3


def test_a_call_that_was_late_in_one_check_does_not_disturb_the_next_one() -> None:
    calls: list[int] = []

    def slow_once(x: Tensor) -> Tensor:
        calls.append(0)
        if len(calls) == 3:  # the first two are those of the recognition
            time.sleep(0.4)
        return x.square()

    first, second = check(slow_once, x(), checks="gradient,determinism", time_limit=0.3).results
    assert (first.verdict, second.verdict) == (Verdict.UNDECIDED, Verdict.CORRECT)


def test_a_module_is_right_with_a_short_limit_and_after_it() -> None:
    assert check(torch.nn.Tanh(), x(), time_limit=0.05).verdict is not Verdict.WRONG
    assert check(torch.nn.Tanh(), x(), time_limit=None, checks="gradient,determinism").passed


def test_a_task_that_is_given_up_runs_to_its_end() -> None:
    worker = LimitedThread()
    go, ended = threading.Event(), threading.Event()

    def late() -> int:
        go.wait()
        ended.set()
        return 1

    with pytest.raises(TimeLimitReached, match=r"within the time limit of 0\.05 s"):
        worker.run(late, limit=0.05)
    assert worker.busy
    with pytest.raises(TimeLimitReached, match="has not returned yet"):
        worker.run(lambda: 2, limit=5)
    go.set()
    assert ended.wait(5)
    while worker.busy:
        time.sleep(0.001)
    assert worker.run(lambda: 3, limit=5) == 3
    worker.close()


def test_a_task_that_is_slow_once_does_not_spoil_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "PATIENCE", 30.0)
    worker = LimitedThread()
    go = threading.Event()
    with pytest.raises(TimeLimitReached):
        worker.run(go.wait, limit=0.01)
    threading.Timer(0.1, go.set).start()
    assert worker.run(lambda: 3, limit=5) == 3
    worker.close()


def test_what_torch_imports_in_its_first_backward_is_no_part_of_a_limit() -> None:
    code = "\n".join(
        [
            "import sys, torch",
            "from nn_from_scratch.verify.deadlines import prepare",
            "prepare()",
            "before = set(sys.modules)",
            "x = torch.ones(1, requires_grad=True)",
            "torch.autograd.grad([x.exp()], [x], [torch.ones(1)])",
            "print(len(set(sys.modules) - before))",
        ]
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) == 0


def test_what_a_task_raises_reaches_the_caller() -> None:
    def fails() -> None:
        raise KeyError("inside")

    worker = LimitedThread()
    with pytest.raises(KeyError, match="inside"):
        worker.run(fails, limit=5)
    worker.close()


def test_without_a_limit_the_checks_run_in_the_callers_thread() -> None:
    seen: set[int | None] = set()

    def forward(x: Tensor) -> Tensor:
        seen.add(threading.current_thread().ident)
        return x * 2

    check(forward, x(), checks="gradient", time_limit=None)
    assert seen == {threading.current_thread().ident}


ENDS_WITH_A_CALL_LEFT_BEHIND = """
import sys, torch
from nn_from_scratch.verify import check, constants

constants.PATIENCE = 0.1

class Endless(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        while True:
            g = g + 0

print(check(Endless, torch.ones(2), checks="gradient", time_limit=0.2).verdict)
sys.exit(7)
"""


def test_a_process_ends_with_its_own_status_where_a_call_was_left_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS_WITH_A_CALL_LEFT_BEHIND], capture_output=True, text=True, check=False
    )
    assert done.stdout == "undecided\n"
    assert done.returncode == 7, done.stderr


def test_threads_are_kept_for_the_next_check_but_not_as_a_subject_has_left_them() -> None:
    def taken(task: Callable[[], object]) -> threading.Thread:
        worker = LimitedThread()
        worker.run(task, limit=5)
        thread = worker.run(threading.current_thread, limit=5)
        worker.close()
        return thread

    first = taken(lambda: None)
    assert taken(lambda: torch.set_autocast_enabled("cpu", True)) is first
    assert taken(lambda: None) is not first


def test_a_kept_thread_computes_with_as_many_threads_as_its_caller() -> None:
    def threads() -> int:
        worker = LimitedThread()
        with contextlib.closing(worker):
            return worker.run(torch.get_num_threads, limit=5)

    before = torch.get_num_threads()
    try:
        for count in (1, 2, 1):
            torch.set_num_threads(count)
            assert threads() == count
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_fork_makes_threads_of_its_own() -> None:
    code = "\n".join(
        [
            "import os, torch",
            "from nn_from_scratch.verify import check",
            "check(torch.sin, torch.ones(2), checks='gradient')",
            "child = os.fork()",
            "passed = check(torch.sin, torch.ones(2), checks='gradient', time_limit=5).passed",
            "if child == 0:",
            "    os._exit(0 if passed else 1)",
            "print(passed, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
        ]
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "0"]
