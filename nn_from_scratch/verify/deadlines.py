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
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import numpy as np
import torch

from nn_from_scratch.verify.context import TimeLimitReached

__all__ = ["Worker", "threads_for"]

T = TypeVar("T")
_GRACE = 0.5


@dataclass(frozen=True)
class _Outcome(Generic[T]):
    value: T | None = None
    error: BaseException | None = None


class Worker:
    """One thread that runs one task after the other, and is replaced when a task is late."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, task: Callable[[], T], *, limit: float) -> T:
        """Run a task and give its value.

        Args:
            task: What to run. It sees the caller's context variables, gradient mode and autocast are at their defaults.
            limit: Seconds to wait.

        Raises:
            TimeLimitReached: If the task is late, or raised this itself.
            BaseException: Whatever else the task raised.
        """
        outcomes: SimpleQueue[_Outcome[T]] = SimpleQueue()
        context = contextvars.copy_context()
        mode = torch.is_grad_enabled()

        def perform() -> None:
            try:
                with torch.set_grad_enabled(mode):
                    outcomes.put(_Outcome(value=context.run(task)))
            except BaseException as error:
                outcomes.put(_Outcome(error=error))

        if self._thread is None or not self._thread.is_alive():
            self._tasks = SimpleQueue()
            self._thread = threading.Thread(target=_serve, args=(self._tasks,), name="verify", daemon=True)
            self._thread.start()
        self._tasks.put(perform)
        try:
            outcome = outcomes.get(timeout=limit + _GRACE)
        except Empty:
            self._abandon()
            raise TimeLimitReached("the time limit of this check was reached") from None
        except BaseException:
            self._abandon()
            raise
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[return-value]  # without an error it is a T

    def close(self) -> None:
        """Let the thread end when it is done."""
        self._tasks.put(None)

    def _abandon(self) -> None:
        thread, self._thread = self._thread, None
        self._tasks.put(None)
        if thread is not None and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(TimeLimitReached))


def _serve(tasks: SimpleQueue[Callable[[], None] | None]) -> None:
    try:
        while True:
            task = tasks.get()
            if task is None:
                return
            task()
    except TimeLimitReached:
        return


#: Fewer numbers than this in all inputs together are computed with in one thread.
_SMALL = 100_000


@contextmanager
def threads_for(inputs: Sequence[object]) -> Iterator[None]:
    """Within it, torch computes in one thread where the inputs are small.

    A verification is thousands of passes over small tensors. Where other programs keep the processors busy, each pass
    would wait for the slowest of torch's threads: 25 s instead of 0.7 s has been seen.

    Args:
        inputs: Of the subject; what is no tensor and no array does not count.
    """
    sizes = (
        x.numel() if isinstance(x, torch.Tensor) else x.size for x in inputs if isinstance(x, torch.Tensor | np.ndarray)
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if sum(sizes) < _SMALL else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
