"""Seconds that mean what they say: a clock that waits for the GPU, and a lock so that one process alone measures."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["Clock", "alone", "no_collection", "synchronised_clock"]

#: Gives seconds from some origin.
Clock = Callable[[], float]


def synchronised_clock() -> float:
    """Seconds of `time.perf_counter`, after every GPU operation that was asked for has ended.

    It imports no torch: what has not been imported has asked for nothing.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def no_collection() -> Iterator[None]:
    """Within it, Python's garbage collector does not start by itself: a pause would hit one side alone."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def alone(name: str = "bench", *, on_wait: Callable[[str], None] = lambda words: None) -> Iterator[None]:
    """Within it, no other process that measures in this way does so; the others of this user wait.

    Args:
        name: of the lock, in the folder for temporary files.
        on_wait: called with what is waited for, in words, where it is not free.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir()) / f"nn_from_scratch-{name}-{user}.lock"
    with path.open("a+b") as file:
        if not _try_to_lock(file):
            on_wait("another process is measuring; this one waits until it has ended")
            _lock(file)
        try:
            yield
        finally:
            _unlock(file)


if sys.platform == "win32":
    import msvcrt

    def _try_to_lock(file: IO[bytes]) -> bool:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _lock(file: IO[bytes]) -> None:
        while True:
            try:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            except OSError:  # it gives up after ten seconds
                continue
            return

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_to_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
