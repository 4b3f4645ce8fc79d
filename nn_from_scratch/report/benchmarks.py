"""Results of benchmarks as a document: the verdict first, then tables, intervals, rounds, counts and the machine.

The "what" of the results in a file of the kind "benchmark" says what else they hold:

- "comparison": `nn_from_scratch.bench.verdicts.GateResult`, of `bench compare`;
- "table1": `nn_from_scratch.bench.timings.Table1`, of `bench run table1`.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report.benchmark_figures import RatioEstimate, Series, forest, scatter
from nn_from_scratch.report.benchmark_table1 import COUNTS, again_cell, bytes_cell, interval_cell, table1
from nn_from_scratch.report.document import Block, Cell, CellValue, Conclusion, Document, Section, Table, format_seconds


def benchmark_document(envelope: Mapping[str, Any]) -> Document:
    """Make a document of a results file.

    Args:
        envelope: as `nn_from_scratch.report.read_results` gives it.

    Raises:
        ArgumentError: it holds results of another kind, or incomplete ones.
    """
    if envelope["kind"] != "benchmark":
        raise ArgumentError(f"the results are of the kind {envelope['kind']!r}, but 'benchmark' is expected")
    results: Mapping[str, Any] = envelope["results"]
    makers: Mapping[Any, Callable[[Mapping[str, Any], Sequence[str]], tuple[str, Conclusion, list[Section]]]] = {
        "comparison": _comparison,
        "table1": table1,
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


def _comparison(results: Mapping[str, Any], commands: Sequence[str]) -> tuple[str, Conclusion, list[Section]]:
    outcomes, removed = results["outcomes"], results["removed"]
    limit = 1.0 + results["tolerance"]
    rows: list[tuple[CellValue, ...]] = [
        (
            outcome["verdict"],
            outcome["name"],
            _median_cell(outcome, "reference"),
            _median_cell(outcome, "candidate"),
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
            [RatioEstimate(outcome["name"], outcome["interval"], outcome["verdict"]) for outcome in measured],
            of="seconds of head / seconds of base",
            limit=limit,
            caption="How much slower the head is, with intervals. A bar wholly right of the dashed line is a "
            "regression, one wholly left of it is fine, and one that crosses it is undecided.",
        )
        sections.append(Section("Ratios", (drawn, _rounds(measured))))
    counts = _count_rows((outcome["name"], outcome["counts"]) for outcome in outcomes)
    if counts:
        header = ("benchmark", "what", "base", "head", "change")
        caption = "Exact counts of one call, which do not depend on the machine's load; one that grows is a regression."
        sections.append(Section("Counts", (Table(caption, header, counts),)))
    return "Benchmarks compared", _compared(outcomes, removed), sections


def _short(revision: str | None) -> str:
    """With twelve digits of each commit, which tell it from others."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28}\b", r"\1", revision or "unknown")


def _compared(outcomes: Sequence[Mapping[str, Any]], removed: Sequence[str]) -> Conclusion:
    found = [outcome["verdict"] for outcome in outcomes]
    numbers = ", ".join(f"{found.count(verdict)} {verdict}" for verdict in dict.fromkeys(found))
    gone = f"; removed without permission: {', '.join(removed)}" if removed else ""
    if "REGRESSED" in found or removed:
        names = [outcome["name"] for outcome in outcomes if outcome["verdict"] == "REGRESSED"]
        slower = f" ({', '.join(names)})" if names else ""
        return Conclusion("failed", f"{numbers or 'Nothing was compared'}{slower}{gone}.")
    if not found:
        return Conclusion("failed", "Nothing was compared, which is not a pass.")
    if "INVALID" in found:
        return Conclusion("failed", f"{numbers}: what could not be measured is not a pass.")
    return Conclusion("undecided" if "INCONCLUSIVE" in found else "passed", f"{numbers}.")


def _rounds(outcomes: Sequence[Mapping[str, Any]]) -> Block:
    """Each sample of head and control, by its round, relative to its partner of the base."""
    panels: dict[str, list[Series]] = {}
    for outcome in outcomes:
        seconds = outcome["seconds"]
        content = []
        for side, name, aside in (("control", "base / base (control)", -0.1), ("candidate", "head / base", 0.1)):
            dots = [
                (number + 1 + aside, ours / theirs)
                for number, groups in enumerate(zip(seconds[side], seconds["reference"], strict=True))
                for ours, theirs in zip(*groups, strict=True)
            ]
            content.append(Series(name, *zip(*dots, strict=True)))
        panels[outcome["name"]] = content
    return scatter(
        panels,
        x="round: a new process of each side",
        y="seconds / seconds of base",
        caption="Every sample of head and control beside that of the base, by the round in which it was taken (control "
        "left, head right of its number). Both lie at the same height where nothing has changed; a lonely dot or a "
        "lonely round is the machine's doing.",
        alt=f"Scatter of ratios by round, for {len(panels)} benchmarks.",
    )


def _count_rows(
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


def _median_cell(outcome: Mapping[str, Any], side: str) -> CellValue:
    """Median of the seconds of a side; empty where nothing was measured."""
    seconds = [second for group in outcome["seconds"].get(side, ()) for second in group]
    middle = statistics.median(seconds) if seconds else None
    return None if middle is None else Cell(format_seconds(middle), middle)
