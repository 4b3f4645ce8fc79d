"""Table I as sections of a document, the report's numbers beside those of a run; and cells of benchmarks' tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from nn_from_scratch.report.benchmark_figures import RatioEstimate, Series, forest, scatter
from nn_from_scratch.report.document import Block, Cell, CellValue, Code, Conclusion, Section, Table

#: What is counted, as results name it, and in words.
COUNTS = (("operators", "operators"), ("launches", "launches"), ("peak_bytes", "peak memory"))

#: Options of the command for the whole that are others for a single line.
_SUPERSEDED = ("--only", "--json")
_EAGER, _REFERENCES = "PyTorch eager", ("the report: its own", "the report: PyTorch")


def table1(results: Mapping[str, Any], commands: Sequence[str]) -> tuple[str, Conclusion, list[Section]]:
    """Title, verdict and sections of a measured Table I.

    Args:
        results: `nn_from_scratch.bench.timings.Table1`, as JSON values.
        commands: shell lines that measure it again.
    """
    timings, report = results["timings"], results["report"]
    optimizers = list(dict.fromkeys(timing["optimizer"] for timing in timings))
    rows: list[tuple[CellValue, ...]] = []
    for optimizer in optimizers:
        if optimizer in report:
            _, torch = report[optimizer]
            for name, (mean, deviation) in zip(_REFERENCES, report[optimizer], strict=True):
                ratio = Cell(f"{mean / torch[0]:.2f}", mean / torch[0])
                rows.append((optimizer, name, _mean_cell(mean, deviation), ratio, None, "as published", None))
        rows += [
            (
                optimizer,
                timing["row"],
                None if timing["void"] else _mean_cell(timing["mean"], timing["deviation"]),
                interval_cell(timing["ratio"]),
                interval_cell(timing["to_compiled"]),
                f"void: {timing['void']}" if timing["void"] else "",
                again_cell(commands, f"{optimizer}: {timing['row']}"),
            )
            for timing in timings
            if timing["optimizer"] == optimizer
        ]
    table = Table(
        f"{results['title']}. Seconds of an epoch; ratios with 95 % intervals, of slices that were run side by side. "
        "The report's numbers are of an RTX 3060 in a laptop: compare its ratios, not its seconds.",
        ("optimizer", "row", "seconds", "/ eager", "/ compiled", "remark", "reproduce"),
        tuple(rows),
    )
    sections = [Section("Table I", (table,))]
    valid = [timing for timing in timings if not timing["void"]]
    estimates = [
        RatioEstimate(f"{timing['optimizer']}: {timing['row']}", timing["ratio"])
        for timing in valid
        if timing["row"] != _EAGER and timing["ratio"] is not None
    ]
    blocks: list[Block] = []
    if estimates:
        caption = "Time of an epoch beside PyTorch eager: left of 1 is faster than it. The report stood at 4.6 to 5.1."
        blocks.append(forest(estimates, of="seconds / seconds of PyTorch eager", caption=caption))
    if valid:
        blocks.append(_slices(valid))
    if blocks:
        sections.append(Section("Ratios and slices", tuple(blocks)))
    counted = tuple(
        (timing["optimizer"], timing["row"], *count_cells(timing["counts"])) for timing in timings if timing["counts"]
    )
    if counted:
        header = ("optimizer", "row", *(words for _, words in COUNTS))
        sections.append(Section("Counts", (Table("Exact counts of one step.", header, counted),)))
    return results["title"], _verdict(timings, optimizers), sections


def _verdict(timings: Sequence[Mapping[str, Any]], optimizers: Sequence[str]) -> Conclusion:
    fastest = []
    for optimizer in optimizers:
        ratios = [
            (timing["ratio"][0], timing["row"])
            for timing in timings
            if timing["optimizer"] == optimizer and timing["ratio"] is not None and timing["row"] != _EAGER
        ]
        if ratios:
            fastest.append(f"{optimizer}: {min(ratios)[1]} at {min(ratios)[0]:.3f} of PyTorch eager")
    void = [f"{timing['row']} ({timing['optimizer']})" for timing in timings if timing["void"]]
    sentence = f"The fastest row is, for {'; '.join(fastest)}." if fastest else "No row could be compared."
    if void:
        return Conclusion("undecided", f"{sentence} Void: {', '.join(void)}.")
    return Conclusion("information" if fastest else "undecided", f"{sentence} All rows have the same losses.")


def _slices(timings: Sequence[Mapping[str, Any]]) -> Block:
    panels: dict[str, list[Series]] = {}
    for timing in timings:
        seconds = [second for epoch in timing["seconds"] for second in epoch]
        dots = Series(timing["row"], range(1, len(seconds) + 1), seconds)
        panels.setdefault(timing["optimizer"], []).append(dots)
    return scatter(
        panels,
        x="slice, over all measured epochs",
        y="seconds of a slice",
        caption="Every slice of every epoch: rows that rise together were slowed by the machine, which their ratios "
        "do not see.",
        alt=f"Scatter of seconds by slice, for {', '.join(panels)}.",
    )


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


def count_cells(counts: Mapping[str, int | None]) -> tuple[CellValue, ...]:
    """A cell for each of `COUNTS`."""
    return counts.get("operators"), counts.get("launches"), bytes_cell(counts.get("peak_bytes"))


def interval_cell(ratio: Sequence[float] | None) -> CellValue:
    """A ratio with its bounds, sorted by the ratio."""
    return None if ratio is None else Cell("{:.3f} [{:.3f}, {:.3f}]".format(*ratio), ratio[0])


def bytes_cell(number: int | None) -> Cell | None:
    """Bytes in the largest binary unit up to MiB that leaves at least 1."""
    if number is None:
        return None
    unit, size = next(((u, n) for u, n in (("MiB", 2**20), ("KiB", 2**10)) if abs(number) >= n), ("B", 1))
    return Cell(f"{number / size:.4g} {unit}", number)


def _mean_cell(mean: float, deviation: float) -> Cell:
    """Seconds, as a mean and a standard deviation."""
    return Cell(f"{mean:.3f} ± {deviation:.3f}", mean)
