"""The parts of Table I: its settings, the timing of each row, and the report's numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nn_from_scratch.bench.counts import Counts
from nn_from_scratch.bench.intervals import Interval
from nn_from_scratch.bench.machine import PRECISIONS
from nn_from_scratch.errors import ArgumentError

#: Mean and standard deviation of the report's Table I, in seconds, on a laptop's RTX 3060: its own, and PyTorch's.
REPORT: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "SGD": ((3.846, 0.187), (0.844, 0.070)),
    "SGD with momentum": ((3.932, 0.131), (0.770, 0.022)),
    "Adam": ((3.986, 0.143), (0.856, 0.060)),
}
_SAMPLES, _QUICK_SAMPLES = 50_000, 2_560


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a run of Table I.

    Attributes:
        samples: in an epoch.
        batch: samples in a step; the last one of an epoch may be smaller.
        epochs: that are measured, after one that warms up.
        slices: of an epoch.
        precision: of float32 products and convolutions on CUDA, "tf32" or "ieee", the same for every row.
        quick: whether this is less than a whole epoch; for the title.
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
        if self.precision not in PRECISIONS:
            raise ArgumentError(f"precision is {self.precision!r}, but 'ieee' or 'tf32' is expected")

    @classmethod
    def chosen(cls, *, quick: bool, device: str, **options: Any) -> Settings:
        """The settings of the whole table, or of a quick one; TF32 on a GPU, as its users have it."""
        precision = "tf32" if device.startswith("cuda") else "ieee"
        samples = _QUICK_SAMPLES if quick else _SAMPLES
        return cls(samples=samples, quick=quick, device=device, precision=precision, **options)

    @property
    def steps(self) -> int:
        """The number of steps in an epoch."""
        return -(-self.samples // self.batch)

    @property
    def title(self) -> str:
        """The heading: what the numbers are of."""
        quick = ", QUICK: not a whole epoch" if self.quick else ""
        return (
            f"Table I on {self.device}{quick}: one epoch of {self.samples} samples of 3x32x32, batch {self.batch}, "
            f"mean and standard deviation over {self.epochs} epochs"
        )


@dataclass
class Timing:
    """One row under one optimizer.

    Attributes:
        seconds: of each slice of each epoch.
        losses: mean loss of each epoch, the one that warms up included.
        void: why the row does not count; empty if it does.
        counts: exact ones of a step; its memory includes what a captured one keeps between steps.
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
        """The mean of the epochs, in seconds."""
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
            "counts": None if self.counts is None else vars(self.counts),
            "ratio": None if self.ratio is None else self.ratio.to_json(),
            "to_compiled": None if self.to_compiled is None else self.to_compiled.to_json(),
        }


@dataclass(frozen=True)
class Table1:
    """All rows under all optimizers.

    Attributes:
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
