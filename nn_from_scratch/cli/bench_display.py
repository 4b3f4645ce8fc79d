"""What `bench` prints: plain lines, the verdict last."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from nn_from_scratch.bench.baselines import Baseline
from nn_from_scratch.bench.outcomes import Outcome, Result
from nn_from_scratch.bench.verdicts import calibrated_tolerance

__all__ = ["aligned", "duration", "show_baseline", "show_result"]


def duration(seconds: float) -> str:
    """With a unit that leaves a number between 1 and 1000."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as columns, the first to the left and the others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def show_result(result: Result, *, strict: bool) -> str:
    """The result of a comparison: a line for each benchmark, and why; then the summary."""
    lines = [f"head: {result.head or 'this project'}", f"base: {result.base or 'baseline'}", ""]
    for outcome in result.outcomes:
        lines += [f"{outcome.verdict}: {outcome.name}{_times(outcome)}", f"    {outcome.reason}"]
    lines += [f"REMOVED: {name} (allow it with --allow-removed)" for name in result.removed]
    lines += [f"removed, as allowed: {name}" for name in result.allowed]
    lines += [f"new, compared with nothing: {name}" for name in result.added]
    controls = [outcome.control for outcome in result.outcomes if outcome.control is not None]
    if controls:
        suggested = calibrated_tolerance(controls, least=0.0)
        lines += ["", f"By the controls of this run, a tolerance of {suggested:.1%} is one that this machine can tell."]
    return "\n".join([*lines, "", result.summary(strict=strict)]) + "\n"


def show_baseline(baseline: Baseline) -> str:
    """What was measured of one side, with its counts."""
    rows: list[tuple[str, ...]] = [("", "median", "fastest", "slowest", "operators", "launches", "peak memory")]
    for name, groups in baseline.seconds.items():
        seconds = [second for group in groups for second in group]
        counts = baseline.counts.get(name, {})
        launches = counts.get("launches")
        rows.append(
            (
                name,
                *map(duration, (statistics.median(seconds), min(seconds), max(seconds))),
                str(counts.get("operators", "-")),
                "-" if launches is None else str(launches),
                "-" if (peak := counts.get("peak_bytes")) is None else f"{peak / 2**20:.2f} MiB",
            )
        )
    return aligned(rows)


def _times(outcome: Outcome) -> str:
    if not outcome.seconds:
        return ""
    ours, theirs = (
        statistics.median(second for group in outcome.seconds[side] for second in group)
        for side in ("candidate", "reference")
    )
    return f"  {duration(theirs)} -> {duration(ours)}"
