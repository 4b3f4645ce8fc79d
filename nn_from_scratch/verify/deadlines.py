"""Running a check that may never return.

Each check runs in a daemon thread, and the caller waits for it no longer than the limit. A signal would reach
the main thread alone, and not while it is inside a C function (a CUDA kernel that hangs, a lock); a subprocess
would need a subject that can be pickled. Nothing is ever thrown into a thread: a check that is late stops by itself
between two calls of its subject (`GuardedSubject`), where nothing is half done. A call that does not return is left
behind, and no further task is run beside it. Only C code that never releases the GIL cannot be bounded.
"""

from __future__ import annotations

import atexit
import contextvars
import functools
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch

from nn_from_scratch.verify import constants
from nn_from_scratch.verify.context import TimeLimitReached

T = TypeVar("T")

_left_behind: list[threading.Thread] = []


class _Task(Generic[T]):
    """Something to run once, and what came of it."""

    def __init__(self, action: Callable[[], T]) -> None:
        self._action: Callable[[], T] | None = action
        self._value: T | None = None
        self._error: BaseException | None = None
        self._ended = threading.Lock()  # held until it has: an Event, which is a lock and more, takes twice as long
        self._ended.acquire()

    @property
    def done(self) -> bool:
        return not self._ended.locked()

    def perform(self) -> None:
        assert self._action is not None
        try:
            self._value = self._action()
        except BaseException as error:
            self._error = error
        finally:
            self._action = None  # what it refers to is not kept alive by a thread that waits for its next task
            self._ended.release()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, or does within so many seconds."""
        if self._ended.acquire(timeout=seconds):
            self._ended.release()
            return True
        return False

    def result(self) -> T:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return cast("T", self._value)


class _Worker:
    """A daemon thread that runs one task after the other.

    Attributes:
        as_new: Whether torch's settings of the thread are still those of a new one.
    """

    def __init__(self) -> None:
        self.as_new = True
        self._tasks: SimpleQueue[_Task[Any] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name="verify", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.perform()
            del task

    def start(self, task: _Task[Any] | None) -> None:
        """Hand over the next task; None ends the thread."""
        self._tasks.put(task)


# Workers that nothing runs on: a new thread, in which torch sets itself up again, takes longer than a small check.
_idle: list[_Worker] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a fork has the forking thread alone


def _taken() -> _Worker:
    with suppress(IndexError):  # there is none, or another thread takes the last one
        return _idle.pop()
    return _Worker()


class LimitedThread:
    """One thread that runs one task after the other, as long as none of them is late for good."""

    def __init__(self) -> None:
        self._worker: _Worker | None = None
        self._latest: _Task[Any] | None = None
        self._patience = constants.PATIENCE

    @property
    def busy(self) -> bool:
        """Whether a task that was given up has still not ended."""
        return self._latest is not None and not self._latest.done

    def run(self, task: Callable[[], T], *, limit: float | None) -> T:
        """Run a task and give its value.

        Args:
            task: What to run. It sees the caller's context variables and gradient mode, neither autocast nor device.
            limit: Seconds to wait; None to run it in the caller's thread, for as long as it takes.

        Raises:
            TimeLimitReached: If the task is late, or raised this itself, or an earlier one has still not ended.
            BaseException: Whatever else the task raised.
        """
        if limit is None:
            return task()
        if self._still_busy():
            raise TimeLimitReached("a call of the subject in an earlier check has not returned yet")
        context = contextvars.copy_context()
        mode, threads = torch.is_grad_enabled(), torch.get_num_threads()

        worker = self._worker = self._worker or _taken()

        def action() -> T:
            if torch.get_num_threads() != threads:  # each thread has a number of its own
                torch.set_num_threads(threads)
            try:
                with torch.set_grad_enabled(mode):
                    return context.run(task)
            finally:
                worker.as_new = worker.as_new and _unchanged()

        latest = _Task(action)
        self._latest = latest
        worker.start(latest)
        if not latest.wait(limit + constants.GRACE):
            raise TimeLimitReached(f"it did not return within the time limit of {limit:g} s")
        return latest.result()

    def close(self) -> None:
        """Keep the thread for the next check, or end it if it may not be as a new one would be."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if self._still_busy():
            worker.start(None)
            _leave_behind(worker.thread)
        elif len(_idle) < constants.IDLE_THREADS and worker.as_new:
            _idle.append(worker)
        else:
            worker.start(None)
            worker.thread.join(constants.GRACE)

    def _still_busy(self) -> bool:
        """Whether a task that was given up has not ended, nor ends in the little time that is left for that.

        A call that is merely slow (it imports something, say) does not spoil what comes next; and what it has put in
        place, such as the parameters of a module, is taken back when it returns. One that hangs is waited for once.
        """
        if self._latest is not None and self.busy:
            began = time.monotonic()
            self._latest.wait(self._patience)
            self._patience = max(0.0, self._patience - (time.monotonic() - began))
        return self.busy


def _unchanged() -> bool:
    """Whether torch's settings of this thread are those of a new one, whatever a subject may have switched."""
    return not (
        torch.is_inference_mode_enabled()
        or torch.is_autocast_enabled("cpu")
        or torch.is_autocast_enabled("cuda")
        or torch.get_default_device().type != "cpu"
    )


@functools.cache
def prepare() -> None:
    """Let torch import what it imports in its first backward, which takes seconds on a busy machine."""
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.ones(1, requires_grad=True, device="cpu")
        torch.autograd.grad([2 * x], [x], [torch.ones(1, device="cpu")])


def _leave_behind(thread: threading.Thread) -> None:
    if not _left_behind:
        atexit.register(_end_without_threads)
    _left_behind.append(thread)


def _end_without_threads() -> None:
    """End the process in a copy of it that has no threads, where some were left behind.

    An interpreter that ends stops each thread where it next asks for the GIL. Where C++ frames are below, as always
    within an operation or a backward of torch, that aborts the whole process ("terminate called without an active
    exception"). A fork has the main thread alone, so it ends in peace, and this process takes on its exit status.
    """
    if not any(thread.is_alive() for thread in _left_behind) or not hasattr(os, "fork"):
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # there is none, or it is closed
            stream.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about the very threads that are not to come along
        child = os.fork()
    if child == 0:
        return
    end = time.monotonic() + constants.ENDING_SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else constants.SIGNAL_STATUS - code)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(constants.ENDING_POLL)


@contextmanager
def threads_for(inputs: Sequence[object]) -> Iterator[None]:
    """Context manager in which torch computes in one thread where the inputs are small.

    A verification is thousands of passes over small tensors. Where other programs keep the processors busy, each pass
    would wait for the slowest of torch's threads.
    """
    sizes = (
        x.numel() if isinstance(x, torch.Tensor) else x.size for x in inputs if isinstance(x, torch.Tensor | np.ndarray)
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if sum(sizes) < constants.MIN_NUMBERS_FOR_THREADS else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
