"""Ours beside PyTorch in many cases, each pair interleaved in one process: what `layers` and `scaling` are made of."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.bench.clock import Clock, synchronised_clock
from nn_from_scratch.bench.intervals import Interval
from nn_from_scratch.bench.machine import machine_info
from nn_from_scratch.bench.pairs import compare

__all__ = ["Duel", "Duels", "Found", "Side", "run_duels"]

#: Called without arguments; gives what it computes, by which the two sides are known to do the same.
Side = Callable[[], Sequence[Tensor | None]]

# The first call makes an ordinary step, the second captures it, the third replays it.
_CALLS_COMPARED = 3


@dataclass(frozen=True)
class Duel:
    """A case.

    Attributes:
        name: as the table shows it.
        make: gives ours and PyTorch's, both at their beginning.
        rtol, atol: how far their values may be from one another.
    """

    name: str
    make: Callable[[], tuple[Side, Side]]
    rtol: float = 1e-3
    atol: float = 1e-4


@dataclass(frozen=True)
class Found:
    """What came out of a case.

    Attributes:
        name: of the case.
        void: why it does not count; empty if it does.
        ratio: of ours to PyTorch's seconds.
        control: of PyTorch's to themselves.
        seconds: medians of a call: ours, and PyTorch's.
    """

    name: str
    void: str = ""
    ratio: Interval | None = None
    control: Interval | None = None
    seconds: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values; intervals as ratios: middle, lower, upper."""
        ratio, control = (None if x is None else [x.ratio, *x.ratios] for x in (self.ratio, self.control))
        seconds = None if self.seconds is None else dict(zip(("ours", "torch"), self.seconds, strict=True))
        return {"name": self.name, "void": self.void, "ratio": ratio, "control": control, "seconds": seconds}


@dataclass(frozen=True)
class Duels:
    """All cases of a table.

    Attributes:
        what: "layers" or "scaling".
        title: what the numbers are of.
        machine: where.
        rows: one for each case.
    """

    what: str
    title: str
    machine: Mapping[str, str]
    rows: tuple[Found, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        rows = [row.to_json() for row in self.rows]
        return {"what": self.what, "title": self.title, "machine": dict(self.machine), "rows": rows}


def run_duels(
    what: str,
    title: str,
    duels: Iterable[Duel],
    *,
    clock: Clock = synchronised_clock,
    seed: int = 0,
    on_progress: Callable[[str], None] = lambda words: None,
) -> Duels:
    """Measure these cases, one after the other.

    Args:
        what: "layers" or "scaling".
        title: what the numbers are of.
        duels: the cases.
        clock: gives seconds.
        seed: of orders and intervals.
        on_progress: called with what is about to be done, in words.
    """
    listed, rows = list(duels), []
    for number, duel in enumerate(listed, 1):
        on_progress(f"{number} of {len(listed)}: {duel.name}")
        rows.append(_measured(duel, clock, seed))
    return Duels(what, title, machine_info(), tuple(rows))


def _measured(duel: Duel, clock: Clock, seed: int) -> Found:
    try:
        ours, theirs = duel.make()
        for _ in range(_CALLS_COMPARED):
            _expect_same(ours(), theirs(), duel)
        comparison = compare(ours, theirs, clock=clock, seed=seed)
        ratio, control = comparison.interval, comparison.control
    except AssertionError as error:
        return Found(duel.name, void=f"other values than PyTorch: {' '.join(str(error).split())[:160]}")
    except torch.OutOfMemoryError:
        return Found(duel.name, void="does not run here: out of memory")
    seconds = comparison.measurement.seconds
    middle = statistics.median(seconds["candidate"]), statistics.median(seconds["reference"])
    return Found(duel.name, ratio=ratio, control=control, seconds=middle)


def _expect_same(ours: Sequence[Tensor | None], theirs: Sequence[Tensor | None], duel: Duel) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        # A gradient that is 0 everywhere may be left out.
        if mine is not None and other is not None:
            torch.testing.assert_close(mine.detach(), other.detach(), rtol=duel.rtol, atol=duel.atol)
