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
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import torch

from nn_from_scratch.verify import constants
from nn_from_scratch.verify.context import TimeLimitReached

T = TypeVar("T")

_left_behind: list[threading.Thread] = []


class LimitedThread:
    """One thread that runs one task after the other, as long as none of them is late for good."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._latest: Future[Any] | None = None
        self._patience = constants.PATIENCE

    @property
    def busy(self) -> bool:
        """Whether a task that was given up has still not ended."""
        return self._latest is not None and not self._latest.done()

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
        future: Future[T] = Future()
        context = contextvars.copy_context()
        mode = torch.is_grad_enabled()

        def perform() -> None:
            try:
                with torch.set_grad_enabled(mode):
                    future.set_result(context.run(task))
            except BaseException as error:
                if not future.done():
                    future.set_exception(error)

        if self._thread is None:
            self._thread = threading.Thread(target=_serve, args=(self._tasks,), name="verify", daemon=True)
            self._thread.start()
        self._latest = future
        self._tasks.put(perform)
        wait([future], timeout=limit + constants.GRACE)
        if not future.done():
            raise TimeLimitReached(f"it did not return within the time limit of {limit:g} s")
        return future.result()

    def close(self) -> None:
        """End the thread, for which a process that ends at once would otherwise not wait."""
        self._tasks.put(None)
        if self._thread is None:
            return
        if not self._still_busy():
            self._thread.join(constants.GRACE)
        if self._thread.is_alive():
            _leave_behind(self._thread)

    def _still_busy(self) -> bool:
        """Whether a task that was given up has not ended, nor ends in the little time that is left for that.

        A call that is merely slow (it imports something, say) does not spoil what comes next; and what it has put in
        place, such as the parameters of a module, is taken back when it returns. One that hangs is waited for once.
        """
        if self._latest is not None and self.busy:
            began = time.monotonic()
            wait([self._latest], timeout=self._patience)
            self._patience = max(0.0, self._patience - (time.monotonic() - began))
        return self.busy


@functools.cache
def prepare() -> None:
    """Let torch import what it imports in its first backward, which takes seconds on a busy machine."""
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.ones(1, requires_grad=True, device="cpu")
        torch.autograd.grad([2 * x], [x], [torch.ones(1, device="cpu")])


def _serve(tasks: SimpleQueue[Callable[[], None] | None]) -> None:
    while (task := tasks.get()) is not None:
        task()


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
