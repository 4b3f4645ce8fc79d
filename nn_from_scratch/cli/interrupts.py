"""Ctrl-C, SIGTERM and SIGHUP as a request: the work goes on to a place where it can be saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Context manager whose function says whether Ctrl-C was pressed; a second Ctrl-C interrupts as usual.

    A terminal that is closed (SIGHUP) and a system that shuts down (SIGTERM) ask the same; a signal that whoever
    started this process had ignored, as nohup does, stays so. Outside the main thread signals cannot be caught, and the
    function always returns False.
    """
    asked = False

    def note(signal_number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # Not sys.stderr: a handler may run in the midst of a write to it, and would break that.
        with suppress(OSError):  # the terminal may be gone
            os.write(2, b"\nstopping and saving; press Ctrl-C again to stop at once, without saving\n")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asking = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.getsignal(number) for number in asking}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stop_on_signals(*, say: bool = True) -> Iterator[Callable[[], bool]]:
    """Context manager whose function says whether Ctrl-C or SIGTERM came, however often they come.

    This is for one of several processes, which must all stop after the same step: Ctrl-C reaches each of them twice,
    once from the terminal and once from the launcher, which ends what does not stop by itself.

    Args:
        say: whether the first Ctrl-C is answered.
    """
    asked = False

    def note(signal_number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if say and not asked and signal_number == signal.SIGINT:
            os.write(2, b"\nstopping all ranks and saving\n")
        asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
