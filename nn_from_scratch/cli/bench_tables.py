"""`nn-from-scratch bench run table1|layers|scaling`: ours beside PyTorch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch

from nn_from_scratch.bench.duels import Duels, run_duels
from nn_from_scratch.bench.intervals import Interval
from nn_from_scratch.bench.rows import EAGER, OPTIMIZERS, ROWS, Row
from nn_from_scratch.bench.table1 import REPORT, Settings, Table, Timing
from nn_from_scratch.bench.table1 import run_table as run_table1
from nn_from_scratch.cli.bench_display import aligned, duration
from nn_from_scratch.denoise.training import check_device
from nn_from_scratch.errors import ArgumentError

__all__ = ["run_table", "show_duels", "show_table"]

_OF_MEMORY = (
    "Peak memory is what a step needs beyond parameters and the optimizer's state; a captured step's includes the "
    "buffers that it keeps between steps."
)


def run_table(args: argparse.Namespace) -> int:
    """Measure the table that is asked for, print and store it; give the exit status.

    Args:
        args: what `cli.bench` has parsed: what, quick, device, batch, epochs, threads, seed, json.

    Returns:
        0, or 3 where a row is void and so nothing can be said of it.

    Raises:
        ArgumentError, DeviceError: an option makes no sense here.
    """
    from nn_from_scratch.cli.bench import store

    check_device(args.device)
    found: Table | Duels
    with _threads(args.threads or 1):
        if args.what == "table1":
            settings = Settings.chosen(
                quick=args.quick, device=args.device, batch=args.batch, epochs=args.epochs or 5, seed=args.seed
            )
            rows, optimizers = _chosen(args.only)
            found = run_table1(settings, rows=rows, optimizers=optimizers, on_progress=_say)
            shown, void = show_table(found), any(timing.void for timing in found.timings)
        else:
            found = _duels(args, _say)
            shown, void = show_duels(found), any(row.void for row in found.rows)
    store(args, found.to_json())
    sys.stdout.write(shown)
    return 3 if void else 0


def show_table(table: Table) -> str:
    """Table I as lines: for each optimizer all rows, then the report's; reasons for void rows last."""
    rows: list[tuple[str, ...]] = [
        ("", "mean", "std", "to eager", "to torch.compile", "operators", "launches", "peak memory")
    ]
    for optimizer in dict.fromkeys(timing.optimizer for timing in table.timings):
        rows.append((optimizer, *("" for _ in rows[0][1:])))
        rows += [_row(timing) for timing in table.timings if timing.optimizer == optimizer]
        ours, theirs = REPORT[optimizer]
        for name, (mean, std) in (("ours", ours), ("PyTorch", theirs)):
            rows.append(
                (
                    f"  the report: {name} (RTX 3060)",
                    *(f"{mean:.3f} s", f"{std:.3f} s", f"{mean / theirs[0]:.3f}", "-", "-", "-", "-"),
                )
            )
    reasons = [f"void: {timing.row} ({timing.optimizer}): {timing.void}" for timing in table.timings if timing.void]
    return "\n".join([f"{table.settings.title}.", aligned(rows), _OF_MEMORY, *reasons]) + "\n"


def show_duels(found: Duels) -> str:
    """Layers or scaling as lines; reasons for void rows last."""
    rows: list[tuple[str, ...]] = [("", "ours", "PyTorch", "ours to PyTorch", "PyTorch to itself")]
    for row in found.rows:
        seconds = ("-", "-") if row.seconds is None else tuple(map(duration, row.seconds))
        rows.append((row.name, *seconds, "void" if row.void else _interval(row.ratio), _interval(row.control)))
    reasons = [f"void: {row.name}: {row.void}" for row in found.rows if row.void]
    return "\n".join([f"{found.title}.", aligned(rows), *reasons]) + "\n"


def _row(timing: Timing) -> tuple[str, ...]:
    times = ("void", "void") if timing.void else (f"{timing.mean:.3f} s", f"{timing.deviation:.3f} s")
    counts = timing.counts
    listed = ("-", "-", "-")
    if counts is not None:
        operators, launches = ("-" if n is None else str(n) for n in (counts.operators, counts.launches))
        listed = (operators, launches, f"{counts.peak_bytes / 2**20:.2f} MiB")
    return (f"  {timing.row}", *times, _interval(timing.ratio), _interval(timing.to_compiled), *listed)


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else str(interval)


def _duels(args: argparse.Namespace, say: Callable[[str], None]) -> Duels:
    quick = ", QUICK: not all cases" if args.quick else ""
    if args.what == "layers":
        from nn_from_scratch.bench.layers import layer_duels

        title = f"Forward and backward of every layer on {args.device}{quick}, the catalogue's small shapes"
        duels = layer_duels(quick=args.quick, device=args.device)
    else:
        from nn_from_scratch.bench.scaling import scaling_duels

        title = f"A training step on {args.device}{quick}, from batch 16, images of 32 x 32 and 16 channels"
        duels = scaling_duels(quick=args.quick, device=args.device)
    if args.only is not None:
        names = [duel.name for duel in duels]
        duels = [duel for duel in duels if fnmatchcase(duel.name, args.only)]
        _expect_some(duels, args.only, names)
    return run_duels(args.what, title, duels, seed=args.seed, on_progress=say)


def _chosen(only: str | None) -> tuple[list[Row], list[str]]:
    """The rows and optimizers of Table I that a pattern for "optimizer: row" names, and eager PyTorch beside them."""
    names = {f"{optimizer}: {row.name}": (row, optimizer) for optimizer in OPTIMIZERS for row in ROWS}
    fitting = [names[name] for name in names if only is None or fnmatchcase(name, only)]
    _expect_some(fitting, only, names)
    wanted = {row.name for row, _ in fitting} | {EAGER}
    return [row for row in ROWS if row.name in wanted], list(dict.fromkeys(optimizer for _, optimizer in fitting))


def _expect_some(found: Collection[object], only: str | None, names: Iterable[str]) -> None:
    if not found:
        raise ArgumentError(f"only is {only!r}, which fits none of: {'; '.join(names)}")


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Within it, torch computes with this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()
