"""Table I as sections of a document: the report's numbers beside those of a run, ratios, slices and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nn_from_scratch.report.benchmark_cells import COUNTS, again_cell, count_cells, interval_cell, mean_cell
from nn_from_scratch.report.benchmark_figures import Estimate, Series, forest, scatter
from nn_from_scratch.report.document import Block, Cell, CellValue, Section, Table, Verdict

__all__ = ["table1"]

_EAGER, _REFERENCES = "PyTorch eager", ("the report: its own", "the report: PyTorch")


def table1(results: Mapping[str, Any], commands: Sequence[str]) -> tuple[str, Verdict, list[Section]]:
    """Title, verdict and sections of a measured Table I.

    Args:
        results: `nn_from_scratch.bench.table1.Table`, as JSON values.
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
                rows.append((optimizer, name, mean_cell(mean, deviation), ratio, None, "as published", None))
        rows += [
            (
                optimizer,
                timing["row"],
                None if timing["void"] else mean_cell(timing["mean"], timing["deviation"]),
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
        Estimate(f"{timing['optimizer']}: {timing['row']}", timing["ratio"])
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


def _verdict(timings: Sequence[Mapping[str, Any]], optimizers: Sequence[str]) -> Verdict:
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
        return Verdict("undecided", f"{sentence} Void: {', '.join(void)}.")
    return Verdict("information" if fastest else "undecided", f"{sentence} All rows have the same losses.")


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
