"""The report's Table I: seconds of one epoch, ours beside PyTorch's, all rows interleaved in one run.

An epoch is cut into slices; in each slice every row trains on the same batches, in random order, so whatever the
machine does in between hits all of them. Rows start from the same weights, and one whose losses are not the losses of
eager PyTorch is void.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from nn_from_scratch.bench.counts import count
from nn_from_scratch.bench.intervals import Interval, bootstrap, log_ratios
from nn_from_scratch.bench.machine import (
    Clock,
    alone,
    float32_precision,
    machine_info,
    no_collection,
    synchronized_clock,
)
from nn_from_scratch.bench.rows import COMPILED, EAGER, OPTIMIZERS, ROWS, Batch, Row, Step, split_into_batches
from nn_from_scratch.bench.timings import REPORT, Settings, Table1, Timing
from nn_from_scratch.errors import ArgumentError

__all__ = ["REPORT", "Settings", "Table1", "Timing", "run_table"]

_TIMES_READY = 3
# Relative differences to eager's losses: of the first steps, before rounding has grown, and of an epoch's mean.
_FIRST_STEPS = 10
_SAME_STEP = {"ieee": 1e-4, "tf32": 1e-2}
_SAME_MEAN = {"ieee": 1e-2, "tf32": 5e-2}


def run_table(
    settings: Settings,
    *,
    rows: Sequence[Row] = ROWS,
    optimizers: Sequence[str] = tuple(OPTIMIZERS),
    clock: Clock = synchronized_clock,
    on_progress: Callable[[str], None] = lambda words: None,
) -> Table1:
    """Measure the table.

    Args:
        rows: who; one of them is eager PyTorch.
        on_progress: called with what is about to be done, in words.

    Raises:
        ArgumentError: eager PyTorch is not among the rows.
    """
    if EAGER not in {row.name for row in rows}:
        raise ArgumentError(f"rows are {', '.join(row.name for row in rows)}, but {EAGER!r} must be one of them")
    kind = torch.device(settings.device).type
    rows = [row for row in rows if kind in row.devices]
    generator = torch.Generator().manual_seed(settings.seed)
    x, y = (torch.rand(settings.samples, 3, 32, 32, generator=generator).to(settings.device) for _ in range(2))
    batches = {
        last: split_into_batches(x, y, settings.batch, channels_last=last)
        for last in {kind in row.channels_last for row in rows}
    }
    timings = []
    with alone(on_wait=on_progress), float32_precision(settings.precision):
        for optimizer in optimizers:
            timings += _run(settings, rows, optimizer, batches, clock, on_progress)
        return Table1(settings, machine_info(), tuple(timings))


def _run(
    settings: Settings,
    rows: Sequence[Row],
    optimizer: str,
    layouts: Mapping[bool, Sequence[Batch]],
    clock: Clock,
    on_progress: Callable[[str], None],
) -> list[Timing]:
    timings = {row.name: Timing(row.name, optimizer) for row in rows}
    kind = torch.device(settings.device).type
    batches_of = {row.name: layouts[kind in row.channels_last] for row in rows}
    steps: dict[str, Step] = {}
    for row in rows:
        on_progress(f"{optimizer}: {row.name} is made ready")
        _make_ready(row, timings[row.name], steps, batches_of[row.name])
    losses = {name: torch.zeros(settings.steps, device=settings.device) for name in steps}
    places = _slices(settings.steps, settings.slices)
    order, names = random.Random(settings.seed), list(steps)
    for epoch in range(settings.epochs + 1):
        on_progress(f"{optimizer}: " + (f"epoch {epoch} of {settings.epochs}" if epoch else "an epoch to warm up"))
        seconds: dict[str, list[float]] = {name: [] for name in names}
        with no_collection():
            for place in places:
                order.shuffle(names)
                for name in names:
                    step, kept, batches = steps[name], losses[name], batches_of[name]
                    start = clock()
                    for number in place:
                        kept[number].copy_(step(*batches[number]))
                    seconds[name].append(clock() - start)
        for name in names:
            timings[name].losses.append(float(losses[name].mean()))
            if epoch:
                timings[name].seconds.append(seconds[name])
            else:
                _expect_same_steps(timings[name], losses[name], losses.get(EAGER), settings)
    _conclude(timings, settings)
    return list(timings.values())


def _make_ready(row: Row, timing: Timing, steps: dict[str, Step], batches: Sequence[Batch]) -> None:
    """Count on a step of its own, and let the one that is timed see all shapes, in every row alike.

    Three times each: the first makes an ordinary step, the second is captured or compiled, the third replays.
    """
    try:
        counted = row.make(batches[0][0], timing.optimizer)
        timing.counts = count(lambda: counted(*batches[0]), operators=row.dispatches)
        step = row.make(batches[0][0], timing.optimizer)
        for batch in (batches[0], batches[-1]):
            for _ in range(_TIMES_READY):
                step(*batch)
        steps[row.name] = step
    except Exception as error:  # torch.compile needs a compiler, and a row of somebody else's may need anything
        timing.void = f"does not run here: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _expect_same_steps(timing: Timing, losses: Tensor, eager: Tensor | None, settings: Settings) -> None:
    if eager is None:
        timing.void = timing.void or f"{EAGER} does not run here, so there is nothing to compare the losses with"
        return
    allowed = _SAME_STEP[settings.precision]
    worst = float(((losses - eager).abs() / eager.abs())[:_FIRST_STEPS].max())
    if not worst <= allowed:
        timing.void = f"other losses than {EAGER}: a step's is off by {worst:.2g}, {allowed:.0e} allowed"


def _conclude(timings: Mapping[str, Timing], settings: Settings) -> None:
    eager, compiled = timings[EAGER], timings.get(COMPILED)
    allowed = _SAME_MEAN[settings.precision]
    for timing in timings.values():
        if timing.void:
            continue
        worst = max(abs(a - b) / abs(b) for a, b in zip(timing.losses, eager.losses, strict=True))
        if not worst <= allowed:
            timing.void = f"other losses than {EAGER}: an epoch's mean is off by {worst:.2g}, {allowed:.0e} allowed"
            continue
        timing.ratio = _ratio(timing, eager)
        if compiled is not None and not compiled.void:
            timing.to_compiled = _ratio(timing, compiled)


def _ratio(timing: Timing, reference: Timing) -> Interval:
    groups = [log_ratios(a, b) for a, b in zip(timing.seconds, reference.seconds, strict=True)]
    return bootstrap(groups, alpha=0.05)


def _slices(steps: int, slices: int) -> list[range]:
    """The steps of an epoch in at most this many parts of about one size."""
    number = min(slices, steps)
    bounds = [steps * place // number for place in range(number + 1)]
    return [range(start, end) for start, end in pairwise(bounds)]
