"""Results of benchmarks as a document: the verdict first, then tables, intervals, rounds, counts and the machine.

What `results` of a results file of the kind "benchmark" hold is told by their "what":

- "comparison": `nn_from_scratch.bench.outcomes.Result`, of `bench compare`;
- "baseline": `nn_from_scratch.bench.baselines.Baseline`, of `bench run`;
- "table1": `nn_from_scratch.bench.table1.Table`, of `bench run table1`;
- "layers" and "scaling", of `bench run layers` and `bench run scaling`:
  {"what", "title", "machine": {name: value}, "rows": [{"name", "ratio": [middle, lower, upper] or None, ...}]},
  where the ratio is of ours to PyTorch eager; a row may also have "seconds": {"ours": s, "torch": s} (a call),
  "counts": {"ours": {...}, "torch": {...}} and "void" (why it does not count).
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report.benchmark_cells import (
    COUNTS,
    again_cell,
    count_cells,
    count_rows,
    interval_cell,
    median_cell,
    time_cell,
)
from nn_from_scratch.report.benchmark_figures import Estimate, Series, forest, scatter
from nn_from_scratch.report.benchmark_table1 import table1
from nn_from_scratch.report.document import Block, CellValue, Document, Section, Table, Verdict

__all__ = ["benchmark_document"]


def benchmark_document(envelope: Mapping[str, Any]) -> Document:
    """Make a document of a results file.

    Args:
        envelope: as `nn_from_scratch.report.read_results` gives it.

    Raises:
        ArgumentError: it holds results of another kind, or such that lack something.
    """
    if envelope["kind"] != "benchmark":
        raise ArgumentError(f"the results are of the kind {envelope['kind']!r}, but 'benchmark' is expected")
    results: Mapping[str, Any] = envelope["results"]
    makers: Mapping[Any, Callable[[Mapping[str, Any], Sequence[str]], tuple[str, Verdict, list[Section]]]] = {
        "comparison": _comparison,
        "baseline": _baseline,
        "table1": table1,
        "layers": _rows,
        "scaling": _rows,
    }
    what = results.get("what")
    if what not in makers:
        raise ArgumentError(f"the results hold what = {what!r}, but one of {', '.join(makers)} is expected")
    try:
        title, verdict, sections = makers[what](results, envelope["commands"])
    except (KeyError, TypeError, IndexError) as error:
        raise ArgumentError(
            f"the results of {what!r} are not complete ({type(error).__name__}: {error}); make them again"
        ) from error
    found = {**envelope["environment"], **results.get("machine", {})}
    return Document(title, verdict, tuple(sections), found, tuple(envelope["commands"]))


def _comparison(results: Mapping[str, Any], commands: Sequence[str]) -> tuple[str, Verdict, list[Section]]:
    outcomes, removed = results["outcomes"], results["removed"]
    limit = 1.0 + results["tolerance"]
    rows: list[tuple[CellValue, ...]] = [
        (
            outcome["verdict"],
            outcome["name"],
            median_cell(outcome, "reference"),
            median_cell(outcome, "candidate"),
            interval_cell(outcome["interval"]),
            interval_cell(outcome["control"]),
            outcome["reason"],
            again_cell(commands, outcome["name"]),
        )
        for outcome in outcomes
    ]
    for verdict, names, why in (
        ("REMOVED", removed, "The base has it, the head has not."),
        ("removed, as allowed", results["allowed"], ""),
        ("new", results["added"], "Compared with nothing."),
    ):
        rows += [(verdict, name, None, None, None, None, why, again_cell(commands, name)) for name in names]
    table = Table(
        f"Head {_short(results['head'])} beside base {_short(results['base'])}; medians of seconds a call; "
        f"ratios head / base with their intervals, of which up to {limit:.3g} is tolerated; the control is the base "
        "beside itself in the same run.",
        ("verdict", "benchmark", "base", "head", "head / base", "base / base", "why", "reproduce"),
        tuple(rows),
    )
    sections = [Section("Benchmarks", (table,))]
    measured = [outcome for outcome in outcomes if outcome["interval"] is not None]
    if measured:
        drawn = forest(
            [Estimate(outcome["name"], outcome["interval"], outcome["verdict"]) for outcome in measured],
            of="seconds of head / seconds of base",
            limit=limit,
            caption="How much slower the head is, with intervals. A bar wholly right of the dashed line is a "
            "regression, one wholly left of it is fine, and one that crosses it is undecided.",
        )
        sections.append(Section("Ratios", (drawn, _rounds(measured))))
    counts = count_rows((outcome["name"], outcome["counts"]) for outcome in outcomes)
    if counts:
        header = ("benchmark", "what", "base", "head", "change")
        caption = "Exact counts of one call, which do not depend on the machine's load; one that grows is a regression."
        sections.append(Section("Counts", (Table(caption, header, counts),)))
    return "Benchmarks compared", _compared(outcomes, removed), sections


def _short(revision: str | None) -> str:
    """With twelve digits of each commit, which tell it from others."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28}\b", r"\1", revision or "unknown")


def _compared(outcomes: Sequence[Mapping[str, Any]], removed: Sequence[str]) -> Verdict:
    found = [outcome["verdict"] for outcome in outcomes]
    numbers = ", ".join(f"{found.count(verdict)} {verdict}" for verdict in dict.fromkeys(found))
    gone = f"; removed without leave: {', '.join(removed)}" if removed else ""
    if "REGRESSED" in found or removed:
        names = [outcome["name"] for outcome in outcomes if outcome["verdict"] == "REGRESSED"]
        slower = f" ({', '.join(names)})" if names else ""
        return Verdict("failed", f"{numbers or 'Nothing was compared'}{slower}{gone}.")
    if not found:
        return Verdict("failed", "Nothing was compared, which is not a pass.")
    if "INVALID" in found:
        return Verdict("failed", f"{numbers}: what could not be measured is not a pass.")
    return Verdict("undecided" if "INCONCLUSIVE" in found else "passed", f"{numbers}.")


def _rounds(outcomes: Sequence[Mapping[str, Any]]) -> Block:
    """Each sample by its process, relative to the reference: its partner where there are pairs, else the median."""
    panels: dict[str, list[Series]] = {}
    names = {"candidate": "head / base", "control": "base / base (control)", "reference": "base"}
    for outcome in outcomes:
        seconds = outcome["seconds"]
        paired = "control" in seconds
        middle = statistics.median(second for group in seconds["reference"] for second in group)
        content = []
        for side, aside in (("control" if paired else "reference", -0.1), ("candidate", 0.1)):
            dots = [
                (number + 1 + aside, second / (seconds["reference"][number][place] if paired else middle))
                for number, group in enumerate(seconds[side])
                for place, second in enumerate(group)
            ]
            content.append(Series(names[side], *zip(*dots, strict=True)))
        panels[outcome["name"]] = content
    return scatter(
        panels,
        x="round: a new process of each side" if "control" in outcomes[0]["seconds"] else "process",
        y="seconds / seconds of base",
        caption="Every sample of head and control beside that of the base, by the round in which it was taken (control "
        "left, head right of its number). Both lie at the same height where nothing has changed; a lonely dot or a "
        "lonely round is the machine's doing.",
        alt=f"Scatter of ratios by round, for {len(panels)} benchmarks.",
    )


def _baseline(results: Mapping[str, Any], commands: Sequence[str]) -> tuple[str, Verdict, list[Section]]:
    rows, panels = [], {}
    for name, groups in results["seconds"].items():
        seconds = [second for group in groups for second in group]
        counts = results["counts"].get(name, {})
        middle = statistics.median(seconds)
        times = map(time_cell, (middle, min(seconds), max(seconds)))
        rows.append((name, *times, *count_cells(counts), again_cell(commands, name)))
        x = [number + 1 for number, group in enumerate(groups) for _ in group]
        panels[name] = [Series("sample", x, [second / middle for second in seconds])]
    header = ("benchmark", "median", "fastest", "slowest", *(words for _, words in COUNTS), "reproduce")
    sections = [Section("Benchmarks", (Table("Time of a call, and exact counts of one.", header, tuple(rows)),))]
    if panels:
        drawn = scatter(
            panels,
            x="process",
            y="seconds / median",
            caption="Samples by process, relative to the median of the benchmark: the wider, the less a comparison "
            "with this baseline can tell.",
            alt=f"Scatter of samples by process, for {len(panels)} benchmarks.",
        )
        sections.append(Section("Samples", (drawn,)))
    sentence = (
        f"{len(rows)} benchmarks of {results['commit'] or 'an unknown commit'} were measured, compared with none."
    )
    return "Benchmarks measured", Verdict("information", sentence), sections


def _rows(results: Mapping[str, Any], commands: Sequence[str]) -> tuple[str, Verdict, list[Section]]:
    rows = results["rows"]
    table = Table(
        f"{results['title']}. Medians of seconds a call; ratio of ours to PyTorch eager with its interval.",
        ("case", "ours", "PyTorch", "ours / PyTorch", "remark", "reproduce"),
        tuple(
            (
                row["name"],
                *(time_cell(row["seconds"][side]) if row.get("seconds") else None for side in ("ours", "torch")),
                interval_cell(row["ratio"]),
                f"void: {row['void']}" if row.get("void") else "",
                again_cell(commands, row["name"]),
            )
            for row in rows
        ),
    )
    sections = [Section("Cases", (table,))]
    valid = [row for row in rows if row["ratio"] is not None and not row.get("void")]
    if not valid:
        return results["title"], Verdict("undecided", "No case could be compared."), sections
    caption = "Each case beside PyTorch eager: left of 1 is faster than it; the bar is the interval."
    drawn = forest(
        [Estimate(row["name"], row["ratio"]) for row in valid], of="seconds / seconds of PyTorch eager", caption=caption
    )
    sections.append(Section("Ratios", (drawn,)))
    counts = count_rows(
        (
            row["name"],
            {"candidate": row["counts"].get("ours") or {}, "reference": row["counts"].get("torch") or {}},
        )
        for row in rows
        if row.get("counts")
    )
    if counts:
        header = ("case", "what", "PyTorch", "ours", "change")
        sections.append(Section("Counts", (Table("Exact counts of one call.", header, counts),)))
    worst = max(valid, key=lambda row: row["ratio"][0])
    faster = sum(row["ratio"][2] < 1 for row in valid)
    sentence = (
        f"{faster} of {len(valid)} cases are surely faster than PyTorch eager; the slowest, {worst['name']}, takes "
        f"{worst['ratio'][0]:.3g} times as long."
    )
    void = [row["name"] for row in rows if row.get("void")]
    if void:
        return results["title"], Verdict("undecided", f"{sentence} Void: {', '.join(void)}."), sections
    return results["title"], Verdict("information", sentence), sections
