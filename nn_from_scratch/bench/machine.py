"""The machine under measurement: torch's settings on it, a clock that waits for the GPU, and a lock."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Gives seconds from some origin.
Clock = Callable[[], float]
#: How float32 products and convolutions are computed on CUDA.
PRECISIONS = ("ieee", "tf32")


def machine_info() -> dict[str, str]:
    """The GPU and those settings that change how fast torch is; nothing if it has not been imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    found = {
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "GPU": "none",
        # Of oneDNN. torch's older function raises an error where products on a GPU have a precision of their own.
        "precision of float32 products": torch.backends.mkldnn.matmul.fp32_precision,
    }
    if torch.cuda.is_available():
        found |= {
            "GPU": torch.cuda.get_device_name(),
            "CUDA": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
            "TF32": f"products {torch.backends.cuda.matmul.fp32_precision}, "
            f"convolutions {torch.backends.cudnn.conv.fp32_precision}",
            "cuDNN benchmark": str(torch.backends.cudnn.benchmark),
        }
    return found


def pinned(threads: int) -> dict[str, str]:
    """The environment of a process that measures: its threads and the hashes of its strings are the same each time."""
    number = str(threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": number,
        "MKL_NUM_THREADS": number,
        "OPENBLAS_NUM_THREADS": number,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",  # the worktree of a base is removed again
    }


@contextmanager
def float32_precision(precision: str) -> Iterator[None]:
    """Context manager that computes float32 convolutions and matrix products on CUDA in this precision.

    Both are set: torch's defaults differ from each other, and its one setting for all does not reach convolutions.

    Args:
        precision: one of `PRECISIONS`.
    """
    from torch.backends import cuda, cudnn

    places = getattr(cudnn, "conv"), cuda.matmul  # noqa: B009  # torch does not declare the first
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = precision
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


def synchronized_clock() -> float:
    """Seconds of `time.perf_counter`, after every GPU operation that was launched has ended.

    It imports no torch: without it, nothing was launched.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def warm_up(function: Callable[[], object], clock: Clock, *, seconds: float) -> float:
    """Call a function at least three times and for so many seconds, until it has settled.

    Returns:
        Seconds of one more call.
    """
    began, done = clock(), 0
    while done < 3 or clock() - began < seconds:
        function()
        done += 1
    return seconds_per_call(function, 1, clock)


def seconds_per_call(function: Callable[[], object], calls: int, clock: Clock) -> float:
    """The mean duration of so many calls, one after the other."""
    start = clock()
    for _ in range(calls):
        function()
    return (clock() - start) / calls


@contextmanager
def no_collection() -> Iterator[None]:
    """Context manager that keeps the garbage collector from starting by itself: a pause would hit one side alone."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def alone(name: str = "bench", *, on_wait: Callable[[str], None] = lambda words: None) -> Iterator[None]:
    """Context manager in which no other process of this user measures; those that also use it wait.

    Args:
        name: of the lock, in the folder for temporary files.
        on_wait: called with a sentence if another process holds the lock.
    """
    from filelock import FileLock, Timeout

    user = os.getuid() if hasattr(os, "getuid") else 0
    lock = FileLock(Path(tempfile.gettempdir()) / f"nn_from_scratch-{name}-{user}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_wait("another process is measuring; this one waits until it has ended")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
