"""Cells of tables about benchmarks: times, ratios with intervals, exact counts, and what measures a line again."""

from __future__ import annotations

import re
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nn_from_scratch.report.document import Cell, CellValue, Code

__all__ = [
    "COUNTS",
    "again_cell",
    "bytes_cell",
    "count_cells",
    "count_rows",
    "interval_cell",
    "mean_cell",
    "median_cell",
    "time_cell",
]

#: What is counted, as results name it, and in words.
COUNTS = (("operators", "operators"), ("launches", "launches"), ("peak_bytes", "peak memory"))

#: Options of the command for the whole that are others for a single line.
_SUPERSEDED = ("--only", "--json")


def again_cell(commands: Sequence[str], name: str) -> CellValue:
    """The shell line that measures one line of a table again.

    Args:
        commands: what made the whole table, as a results file has it.
        name: of the line, as `nn-from-scratch bench --only` knows it.
    """
    if not commands:
        return None
    words = shlex.split(commands[0])
    kept = []
    for place, word in enumerate(words):
        if word not in _SUPERSEDED and not word.startswith(tuple(f"{option}=" for option in _SUPERSEDED)):
            kept += [word] if place == 0 or words[place - 1] not in _SUPERSEDED else []
    # In a pattern, a bracket stands for a set of characters.
    return Code(shlex.join([*kept, "--only", re.sub(r"([*?[])", r"[\1]", name)]))


def count_rows(
    counted: Iterable[tuple[str, Mapping[str, Mapping[str, int | None]]]],
) -> tuple[tuple[CellValue, ...], ...]:
    """Name, count, before, now and change, for each name and its counts by side ("candidate", "reference")."""
    rows: list[tuple[CellValue, ...]] = []
    for name, sides in counted:
        ours, theirs = sides.get("candidate", {}), sides.get("reference", {})
        for key, words in COUNTS:
            before, now = theirs.get(key), ours.get(key)
            if before is not None or now is not None:
                change = now - before if before is not None and now is not None else None
                cells = (bytes_cell(value) if key == "peak_bytes" else value for value in (before, now, change))
                rows.append((name, words, *cells))
    return tuple(rows)


def count_cells(counts: Mapping[str, int | None]) -> tuple[CellValue, ...]:
    """A cell for each of `COUNTS`."""
    return counts.get("operators"), counts.get("launches"), bytes_cell(counts.get("peak_bytes"))


def median_cell(outcome: Mapping[str, Any], side: str) -> CellValue:
    """Median of the seconds of a side; empty where nothing was measured."""
    seconds = [second for group in outcome["seconds"].get(side, ()) for second in group]
    return time_cell(statistics.median(seconds)) if seconds else None


def interval_cell(ratio: Sequence[float] | None) -> CellValue:
    """A ratio with its bounds, sorted by the ratio."""
    return None if ratio is None else Cell("{:.3f} [{:.3f}, {:.3f}]".format(*ratio), ratio[0])


def mean_cell(mean: float, deviation: float) -> Cell:
    """Seconds, as a mean and a standard deviation."""
    return Cell(f"{mean:.3f} ± {deviation:.3f}", mean)


def time_cell(seconds: float) -> Cell:
    """Seconds in a unit that leaves a number between 1 and 1000."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return Cell(f"{seconds / size:.3g} {unit}", seconds)
    return Cell(f"{seconds / 1e-9:.3g} ns", seconds)


def bytes_cell(number: int | None) -> Cell | None:
    """Bytes in the largest binary unit up to MiB that leaves at least 1."""
    if number is None:
        return None
    unit, size = next(((u, n) for u, n in (("MiB", 2**20), ("KiB", 2**10)) if abs(number) >= n), ("B", 1))
    return Cell(f"{number / size:.4g} {unit}", number)
