"""Waiting for another thread without going to sleep, and without the lock of the interpreter.

A thread that sleeps takes 30 to 50 microseconds to wake up, and who wakes it takes about as long: as much as ten
operators of a small network. So does one that finds the lock of the interpreter taken. A loop of TorchScript's
interpreter sleeps as little as the threads that torch itself waits with, and needs no lock.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

#: Looks, each some 65 nanoseconds, before the one who waits gives up: about a millisecond.
PATIENCE = 1 << 14
#: Turns of the loop, shorter than looks, after a ring, on both sides: whoever else needs the lock of the interpreter at
#: that moment takes it for some microseconds, and who finds it taken sleeps after all.
LINGERING = 256

# The length of a tensor is read without an operator: nobody who counts or profiles operators sees the loop.
_WAIT = """graph(%rung : Tensor, %seen : int, %patience : int, %lingering : int):
  %always : bool = prim::Constant[value=1]()
  prim::Loop(%patience, %always)
    block0(%i : int):
      %length : int = aten::len(%rung)
      %same : bool = aten::eq(%length, %seen)
      -> (%same)
  prim::Loop(%lingering, %always)
    block0(%i : int):
      -> (%always)
  %last : int = aten::len(%rung)
  return (%last)
"""
#: Rings and lingers: lines of a graph that is given the bell's tensor as `%rung`.
RING = (
    "%bell_three : int = prim::Constant[value=3]()",
    "%bell_length : int = aten::len(%rung)",
    "%bell_next : int = aten::sub(%bell_three, %bell_length)",
    "%bell_shape : int[] = prim::ListConstruct(%bell_next)",
    "%bell_layout : NoneType = prim::Constant()",
    "%bell_rung : Tensor = aten::resize_(%rung, %bell_shape, %bell_layout)",
    "%bell_always : bool = prim::Constant[value=1]()",
    f"%bell_turns : int = prim::Constant[value={LINGERING}]()",
    "prim::Loop(%bell_turns, %bell_always)",
    "  block0(%i : int):",
    "    -> (%bell_always)",
)
#: In it.
RING_OPERATORS = ("aten::len.Tensor", "aten::sub.int", "aten::resize_")

#: Whether processors of this kind let another thread see what was written in the order in which it was written.
IN_ORDER = platform.machine().lower() in {"x86_64", "amd64", "x86", "i386", "i686"}


class Bell:
    """What one thread rings, and another one waits for.

    Attributes:
        rung: its length, 1 or 2, is another one after each ring.
    """

    def __init__(self) -> None:
        self.rung = torch.zeros(2, device="cpu")
        self._seen = len(self.rung)

    def ring(self) -> None:
        """Let the one who waits, or will, go on."""
        self.rung.resize_(3 - len(self.rung))

    def forget(self) -> None:
        """Let only rings from now on count."""
        self._seen = len(self.rung)

    def wait(self, *, lingering: int = LINGERING) -> bool:
        """Wait for a ring since the last time, or for about a millisecond; whether there was one."""
        before, loop = self._seen, _loop()
        if not lingering and len(self.rung) != before:
            self.forget()
        elif loop is not None:
            self._seen = loop(self.rung, before, PATIENCE, lingering)
        return self._seen != before


@cache
def _loop() -> Callable[[Tensor, int, int, int], int] | None:
    """The loop, or None where torch lacks the ways to it, which are internal: then nobody waits awake."""
    try:
        graph = torch._C.parse_ir(_WAIT)
        loop: Callable[[Tensor, int, int, int], int] = as_written(torch._C._create_function_from_graph("wait", graph))
        loop(torch.zeros(1, device="cpu"), 1, 1, 1)
    except (AttributeError, RuntimeError):
        return None
    return loop


def as_written(function: Callable[..., T]) -> Callable[..., T]:
    """The function of a graph, run without the interpreter's optimizations.

    Raises:
        AttributeError: torch lacks the ways to leave them out.
    """
    optimizes, optimize = torch._C._get_graph_executor_optimize, torch._C._set_graph_executor_optimize

    def run(*arguments: Any) -> T:
        before = optimizes()  # of this thread alone
        optimize(False)
        try:
            return function(*arguments)
        finally:
            optimize(before)

    return run
