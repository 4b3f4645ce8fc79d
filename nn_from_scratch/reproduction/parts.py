"""The parts of the report that are done again, and how much of each: data, so that it costs nothing to import."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nn_from_scratch.denoise.settings import OPTIMIZER_DEFAULTS, expect_integer

#: The kinds of jobs: parts of the report, each of which can be done alone.
KINDS = ("memory", "parity", "table1", "curve", "rounding", "final")

#: Pairs in a step, in figures 2 and 3 of the report.
BATCH = 16
OURS, THEIRS = "ours", "torch.nn"
#: The optimizers of figure 2, as settings of a training.
OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "SGD": {"optimizer": "sgd", "lr": OPTIMIZER_DEFAULTS["sgd"]["lr"], "momentum": 0.0},
    "SGD with momentum": {"optimizer": "sgd", **OPTIMIZER_DEFAULTS["sgd"]},
    "Adam": {"optimizer": "adam", **OPTIMIZER_DEFAULTS["adam"]},
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A piece of the work whose result is kept in a file of its own.

    Attributes:
        name: of the file, without its ending.
        kind: one of `KINDS`.
        options: arguments of the kind's function.
    """

    name: str
    kind: str
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The amount of work; the whole by default.

    Attributes:
        epochs, seeds: of each curve of figure 2.
        rounding_steps: of the short run in float64.
        memory_batch: pairs in the step whose memory is measured.
        compared: validation images for the classical denoiser.
        table_samples, table_epochs: of Table I.
        device: "cpu", "cuda" or "cuda:NUMBER".
        data: absolute path of the user's pictures or of the course's files; None for the built-in photographs.
        quick: whether this is less than the report did; for the title.

    Raises:
        ArgumentError: a number makes no sense.
    """

    train_size: int = 50_000
    validation_size: int = 1_000
    epochs: int = 8
    seeds: int = 3
    final_epochs: int = 10
    rounding_steps: int = 50
    memory_batch: int = 128
    compared: int = 1_000
    table_samples: int = 50_000
    table_epochs: int = 3
    device: str = "cpu"
    data: str | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name not in ("device", "data", "quick"):
                expect_integer(value, name=name, least=1)

    @classmethod
    def chosen(cls, *, quick: bool, device: str = "cpu", data: str | None = None) -> Plan:
        """The whole plan, or the quick one."""
        if not quick:
            return cls(device=device, data=data)
        return cls(
            train_size=5_000,
            validation_size=300,
            epochs=3,
            seeds=2,
            final_epochs=4,
            rounding_steps=20,
            compared=200,
            table_samples=2_560,
            table_epochs=2,
            device=device,
            data=data,
            quick=True,
        )

    def command(self, *, out: Path | None = None, only: Sequence[str] = ()) -> str:
        """The shell line that does this plan, or these kinds of its jobs alone; empty if no line does it."""
        if self != Plan.chosen(quick=self.quick, device=self.device, data=self.data):
            return ""
        words = ["nn-from-scratch", "reproduce", *(["--quick"] if self.quick else [])]
        words += [f"--only={kind}" for kind in only]
        words += [f"--out={out}"] if out is not None else []
        words += [f"--device={self.device}"] if self.device != "cpu" else []
        words += [f"--data={self.data}"] if self.data is not None else []
        return shlex.join(words)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All pieces; those that take longest come first, so that the workers end together.

        Table I measures time, comes last and is done while nothing else runs.
        """
        curves = [
            Job(
                name=f"curve-{optimizer.lower().replace(' ', '-')}-{side}-{seed}",
                kind="curve",
                title=f"Fig. 2: {optimizer}, {side}, seed {seed}",
                options={"optimizer": optimizer, "side": side, "seed": seed},
            )
            for seed in range(self.seeds)
            for optimizer in OPTIMIZERS
            for side in (THEIRS, OURS)
        ]
        return (
            Job(name="final", kind="final", title="Fig. 3 and IV: the final model"),
            *curves,
            Job(name="parity", kind="parity", title="III.A: the error from layer to layer"),
            Job(name="rounding", kind="rounding", title="Fig. 2: the same steps in float64"),
            Job(name="memory", kind="memory", title="II.D: what keeping records costs"),
            Job(name="table1", kind="table1", title="Table I: seconds of an epoch"),
        )
