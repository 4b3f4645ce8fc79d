"""The report's Table I: seconds of one epoch, ours beside PyTorch's, all rows interleaved in one run.

An epoch is cut into slices; in each slice every row trains on the same batches, in random order, so whatever the
machine does in between hits all of them. Rows start from the same weights, and one whose losses are not the losses of
eager PyTorch is void.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.bench.clock import Clock, alone, no_collection, synchronised_clock
from nn_from_scratch.bench.counts import Counts, count
from nn_from_scratch.bench.intervals import Interval, bootstrap, log_ratios
from nn_from_scratch.bench.machine import machine_info
from nn_from_scratch.bench.rows import COMPILED, EAGER, OPTIMIZERS, ROWS, Batch, Row, Step, split_into_batches
from nn_from_scratch.errors import ArgumentError

__all__ = ["REPORT", "Settings", "Table", "Timing", "run_table"]

#: Mean and standard deviation of the report's Table I, in seconds, on a laptop's RTX 3060: its own, and PyTorch's.
REPORT: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "SGD": ((3.846, 0.187), (0.844, 0.070)),
    "SGD with momentum": ((3.932, 0.131), (0.770, 0.022)),
    "Adam": ((3.986, 0.143), (0.856, 0.060)),
}
_TIMES_READY = 3
_SAMPLES, _QUICK_SAMPLES = 50_000, 2_560
# Relative differences to eager's losses: of the first steps, before rounding has grown, and of an epoch's mean.
_FIRST_STEPS = 10
_SAME_STEP = {"ieee": 1e-4, "tf32": 1e-2}
_SAME_MEAN = {"ieee": 1e-2, "tf32": 5e-2}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run.

    Attributes:
        samples: in an epoch.
        batch: samples in a step; the last one of an epoch may be smaller.
        epochs: that are measured, after one that warms up.
        slices: of an epoch.
        device: where.
        precision: of float32 products and convolutions on CUDA, "tf32" or "ieee", the same for every row.
        quick: whether this is no whole epoch; for the title.
        seed: of the data and of the order.

    Raises:
        ArgumentError: a number makes no sense.
    """

    samples: int = _SAMPLES
    batch: int = 128
    epochs: int = 5
    slices: int = 10
    device: str = "cpu"
    precision: str = "ieee"
    quick: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("samples", "batch", "epochs", "slices"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} is {getattr(self, name)}, but at least 1 is expected")
        if self.precision not in _SAME_STEP:
            raise ArgumentError(f"precision is {self.precision!r}, but 'ieee' or 'tf32' is expected")

    @classmethod
    def chosen(cls, *, quick: bool, device: str, **options: Any) -> Settings:
        """Those of the whole table, or of a quick one; TF32 where there is a GPU, as its users have it."""
        precision = "tf32" if device.startswith("cuda") else "ieee"
        samples = _QUICK_SAMPLES if quick else _SAMPLES
        return cls(samples=samples, quick=quick, device=device, precision=precision, **options)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-self.samples // self.batch)

    @property
    def title(self) -> str:
        """What the numbers are of."""
        quick = ", QUICK: not a whole epoch" if self.quick else ""
        return (
            f"Table I on {self.device}{quick}: one epoch of {self.samples} samples of 3x32x32, batch {self.batch}, "
            f"mean and standard deviation over {self.epochs} epochs"
        )


@dataclass
class Timing:
    """One row under one optimizer.

    Attributes:
        row, optimizer: which.
        seconds: of each slice of each epoch.
        losses: mean loss of each epoch, the one that warms up included.
        void: why the row does not count; empty if it does.
        counts: exact ones of a step.
        ratio, to_compiled: to eager and to torch.compile, slice by slice.
    """

    row: str
    optimizer: str
    seconds: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    void: str = ""
    counts: Counts | None = None
    ratio: Interval | None = None
    to_compiled: Interval | None = None

    @property
    def epochs(self) -> list[float]:
        """Seconds of each epoch."""
        return [sum(slices) for slices in self.seconds]

    @property
    def mean(self) -> float:
        """Of the epochs, in seconds."""
        return statistics.fmean(self.epochs)

    @property
    def deviation(self) -> float:
        """The standard deviation of the epochs, in seconds; of a single one 0."""
        return statistics.stdev(self.epochs) if len(self.seconds) > 1 else 0.0

    def to_json(self) -> dict[str, Any]:
        """As JSON values; intervals as ratios: middle, lower, upper."""
        void = bool(self.void)
        return {
            "row": self.row,
            "optimizer": self.optimizer,
            "void": self.void,
            "mean": None if void else self.mean,
            "deviation": None if void else self.deviation,
            "seconds": self.seconds,
            "losses": self.losses,
            "counts": None if self.counts is None else self.counts.to_json(),
            "ratio": None if self.ratio is None else [self.ratio.ratio, *self.ratio.ratios],
            "to_compiled": None if self.to_compiled is None else [self.to_compiled.ratio, *self.to_compiled.ratios],
        }


@dataclass(frozen=True)
class Table:
    """All rows under all optimizers.

    Attributes:
        settings: what was run.
        machine: where.
        timings: in the order of optimizers and rows.
    """

    settings: Settings
    machine: Mapping[str, str]
    timings: tuple[Timing, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "what": "table1",
            "title": self.settings.title,
            "settings": asdict(self.settings),
            "machine": dict(self.machine),
            "timings": [timing.to_json() for timing in self.timings],
            "report": {name: [list(ours), list(theirs)] for name, (ours, theirs) in REPORT.items()},
        }


def run_table(
    settings: Settings,
    *,
    rows: Sequence[Row] = ROWS,
    optimizers: Sequence[str] = tuple(OPTIMIZERS),
    clock: Clock = synchronised_clock,
    on_progress: Callable[[str], None] = lambda words: None,
) -> Table:
    """Measure the table.

    Args:
        settings: what.
        rows: who; one of them is eager PyTorch.
        optimizers: their names.
        clock: gives seconds.
        on_progress: called with what is about to be done, in words.

    Raises:
        ArgumentError: eager PyTorch is not among the rows.
    """
    if EAGER not in {row.name for row in rows}:
        raise ArgumentError(f"rows are {', '.join(row.name for row in rows)}, but {EAGER!r} must be one of them")
    _set_precision(settings.precision)
    kind = torch.device(settings.device).type
    rows = [row for row in rows if kind in row.devices]
    generator = torch.Generator().manual_seed(settings.seed)
    x, y = (torch.rand(settings.samples, 3, 32, 32, generator=generator).to(settings.device) for _ in range(2))
    batches = {
        last: split_into_batches(x, y, settings.batch, channels_last=last)
        for last in {kind in row.channels_last for row in rows}
    }
    timings = []
    with alone():
        for optimizer in optimizers:
            timings += _run(settings, rows, optimizer, batches, clock, on_progress)
    return Table(settings, machine_info(), tuple(timings))


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
        timing.void = timing.void or f"{EAGER} does not run here, so there is nothing to hold the losses against"
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


def _set_precision(precision: str) -> None:
    # Both, because a convolution's own setting does not follow the global one.
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]  # torch's types lack it
