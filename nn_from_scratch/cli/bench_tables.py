"""What `nn-from-scratch bench` prints, and `bench run table1`: an epoch of the report's model, ours beside PyTorch."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from nn_from_scratch.errors import ArgumentError

if TYPE_CHECKING:
    from nn_from_scratch.bench.intervals import Interval
    from nn_from_scratch.bench.rows import Row
    from nn_from_scratch.bench.timings import Table1, Timing
    from nn_from_scratch.bench.verdicts import BenchmarkOutcome, GateResult


# Columns of a file or a pipe, so that no line of a table is broken there.
_WIDTH = 200
_NOTE = (
    "The report's rows are of an RTX 3060. Memory is a step's peak beyond parameters and the optimizer's state; a "
    "captured step's includes the buffers that it keeps between steps."
)


def run_table(args: argparse.Namespace) -> int:
    """Measure Table I, print and store it; give the exit status.

    Args:
        args: what `cli.bench` has parsed: quick, device, batch, epochs, only, threads, seed, json.

    Returns:
        0, or 3 where a row is void and so nothing can be said of it.

    Raises:
        ArgumentError, DeviceError: an option makes no sense here.
    """
    import torch

    from nn_from_scratch.bench import table1
    from nn_from_scratch.denoise.training import check_device
    from nn_from_scratch.report.results_file import store

    check_device(args.device)
    settings = table1.Settings.chosen(
        quick=args.quick, device=args.device, batch=args.batch, epochs=args.epochs, seed=args.seed
    )
    rows, optimizers = chosen_rows(args.only)
    threads = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        with live_line() as say:
            found = table1.run_table(settings, rows=rows, optimizers=optimizers, on_progress=say)
    finally:
        torch.set_num_threads(threads)
    store(args.json, "benchmark", found.to_json(), commands=(args.command_line,))
    show_table(new_console(), found)
    return 3 if any(timing.void for timing in found.timings) else 0


def chosen_rows(only: str | None) -> tuple[list[Row], list[str]]:
    """The rows and optimizers of Table I that a pattern for "optimizer: row" names, and eager PyTorch beside them.

    Raises:
        ArgumentError: the pattern fits none.
    """
    from nn_from_scratch.bench.rows import EAGER, OPTIMIZERS, ROWS

    names = {f"{optimizer}: {row.name}": (row, optimizer) for optimizer in OPTIMIZERS for row in ROWS}
    fitting = [names[name] for name in names if only is None or fnmatchcase(name, only)]
    if not fitting:
        raise ArgumentError(f"only is {only!r}, which fits none of: {'; '.join(names)}")
    wanted = {row.name for row, _ in fitting} | {EAGER}
    return [row for row in ROWS if row.name in wanted], list(dict.fromkeys(optimizer for _, optimizer in fitting))


def new_console() -> Console:
    """Standard output as rich writes to it, with nothing in a text taken as markup."""
    width = None if sys.stdout.isatty() else _WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False)


@contextmanager
def live_line() -> Iterator[Callable[[str], None]]:
    """Context manager that gives a function to say what is being done: a live line on a terminal, else plain lines."""
    console = new_console()

    def write(words: str) -> None:
        console.print(words, soft_wrap=True)
        console.file.flush()

    if console.is_terminal:
        with console.status("starting") as status:
            yield status.update
    else:
        yield write


def show_result(console: Console, result: GateResult, *, strict: bool) -> None:
    """Print the result of a comparison: a line for each benchmark, and why; then the summary."""
    from nn_from_scratch.bench.verdicts import calibrated_tolerance

    lines = [f"head: {result.head}", f"base: {result.base}", ""]
    for outcome in result.outcomes:
        lines += [f"{outcome.verdict}: {outcome.name}{_times(outcome)}", f"    {outcome.reason}"]
    lines += [f"REMOVED: {name} (allow it with --allow-removed)" for name in result.removed]
    lines += [f"removed, as allowed: {name}" for name in result.allowed]
    lines += [f"new, compared with nothing: {name}" for name in result.added]
    controls = [outcome.control for outcome in result.outcomes if outcome.control is not None]
    if controls:
        suggested = calibrated_tolerance(controls)
        lines += ["", f"By the controls of this run, this machine can resolve a tolerance of {suggested:.1%}."]
    console.print("\n".join([*lines, "", result.summary(strict=strict)]), soft_wrap=True)


def show_table(console: Console, table: Table1) -> None:
    """Print Table I: for each optimizer all rows, then the report's; reasons for void rows last."""
    from nn_from_scratch.bench.timings import REPORT

    shown = Table("", box=None, pad_edge=False)
    for heading in ("mean", "std", "/ eager", "/ compiled", "operators", "launches", "memory"):
        shown.add_column(heading, justify="right")
    for optimizer in dict.fromkeys(timing.optimizer for timing in table.timings):
        shown.add_row(optimizer)
        for timing in table.timings:
            if timing.optimizer == optimizer:
                shown.add_row(f"  {timing.row}", *_cells(timing))
        ours, theirs = REPORT[optimizer]
        for name, (mean, std) in (("ours", ours), ("PyTorch", theirs)):
            times = (f"{mean:.3f} s", f"{std:.3f} s", f"{mean / theirs[0]:.3f}")
            shown.add_row(f"  the report: {name}", *times, "-", "-", "-", "-")
    console.print(f"{table.settings.title}.", soft_wrap=True)
    console.print(shown)
    reasons = [f"void: {timing.row} ({timing.optimizer}): {timing.void}" for timing in table.timings if timing.void]
    console.print("\n".join(["", _NOTE, *reasons]), soft_wrap=True)


def _cells(timing: Timing) -> tuple[str, ...]:
    times = ("void", "void") if timing.void else (f"{timing.mean:.3f} s", f"{timing.deviation:.3f} s")
    ratios = _interval(timing.ratio), _interval(timing.to_compiled)
    if timing.counts is None:
        return *times, *ratios, "-", "-", "-"
    counts = ("-" if n is None else str(n) for n in (timing.counts.operators, timing.counts.launches))
    return *times, *ratios, *counts, f"{timing.counts.peak_bytes / 2**20:.2f} MiB"


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else str(interval)


def _times(outcome: BenchmarkOutcome) -> str:
    from nn_from_scratch.report.document import format_seconds

    if not outcome.seconds:
        return ""
    ours, theirs = (
        statistics.median(second for group in outcome.seconds[side] for second in group)
        for side in ("candidate", "reference")
    )
    return f"  {format_seconds(theirs)} -> {format_seconds(ours)}"
