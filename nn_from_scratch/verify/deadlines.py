"""Running a check that may never return.

Each check runs in a daemon thread, and the caller waits for it no longer than the limit. A signal would reach
the main thread alone, and not while it is inside a C function (a CUDA kernel that hangs, a lock); a subprocess
would need a subject that can be pickled. A thread that is late is asked to stop by an exception, which ends
Python code; code that holds no Python frame is left behind, and the process can still exit, as the thread is a
daemon. Only C code that never releases the GIL cannot be bounded.
"""

from __future__ import annotations

import contextvars
import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import torch

from nn_from_scratch.verify import constants
from nn_from_scratch.verify.context import TimeLimitReached

T = TypeVar("T")


class LimitedThread:
    """One thread that runs one task after the other, and is replaced when a task is late."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, task: Callable[[], T], *, limit: float | None) -> T:
        """Run a task and give its value.

        Args:
            task: What to run. It sees the caller's context variables and gradient mode; autocast is at its default.
            limit: Seconds to wait; None to run it in the caller's thread, for as long as it takes.

        Raises:
            TimeLimitReached: If the task is late, or raised this itself.
            BaseException: Whatever else the task raised.
        """
        if limit is None:
            return task()
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

        if self._thread is None or not self._thread.is_alive():
            self._tasks = SimpleQueue()
            self._thread = threading.Thread(target=_serve, args=(self._tasks,), name="verify", daemon=True)
            self._thread.start()
        self._tasks.put(perform)
        try:
            wait([future], timeout=limit + constants.GRACE)
        finally:
            if not future.done():
                self._abandon()
        if not future.done():
            raise TimeLimitReached("the time limit of this check was reached")
        return future.result()

    def close(self) -> None:
        """End the thread, for which a process that ends at once would otherwise not wait."""
        self._tasks.put(None)
        if self._thread is not None:
            self._thread.join(constants.GRACE)

    def _abandon(self) -> None:
        thread, self._thread = self._thread, None
        self._tasks.put(None)
        if thread is not None and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(TimeLimitReached))


def _serve(tasks: SimpleQueue[Callable[[], None] | None]) -> None:
    try:
        while (task := tasks.get()) is not None:
            task()
    except TimeLimitReached:
        return


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
