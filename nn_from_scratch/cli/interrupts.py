"""Ctrl-C as a request: the work goes on to a place where it can be saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_on_interrupt"]


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Within it, the first Ctrl-C makes the given function return True; the second interrupts as usual.

    Outside the main thread signals cannot be caught, and the function always returns False.
    """
    asked = False

    def note(signal_number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # Not sys.stderr: a handler may run in the midst of a write to it, and would break that.
        os.write(2, b"\nstopping and saving; press Ctrl-C again to stop at once, without saving\n")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
