"""The settings of a training run, and its progress; importing this loads no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from nn_from_scratch.errors import ArgumentError, CheckpointError

#: As many as the report's final model.
DEFAULT_EPOCHS = 10

#: How convolutions may be computed: a name in `engine.convolutions.ALGORITHMS`, or "auto" for the fastest.
CONVOLUTIONS = ("auto", "native", "unfold")

#: The dtypes in which forward and backward may be computed.
PRECISIONS = ("float32", "bfloat16", "float16")

#: The report's learning rate and momentum for each optimizer (report, figure 2).
OPTIMIZER_DEFAULTS: dict[str, dict[str, float]] = {
    "sgd": {"lr": 0.5, "momentum": 0.9},
    "adam": {"lr": 0.01, "momentum": 0.0},
}


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The settings of a training run; the report's by default.

    Attributes:
        epochs: passes over the training pairs, at least 1.
        batch_size: pairs in a step, at least 1.
        optimizer: "sgd" or "adam".
        lr: learning rate, finite and above 0.
        momentum: of SGD, in [0, 1); Adam has its own betas and takes 0 here.
        seed: of the initial weights, the data and the order of the batches; 0 or more, below 2**63.
        precision: "float32"; or "bfloat16" or "float16", in which forward and backward are then computed, with the
            parameters kept in float32.

    Raises:
        ArgumentError: a value makes no sense.
    """

    epochs: int = DEFAULT_EPOCHS
    batch_size: int = 16
    optimizer: str = "sgd"
    lr: float = 0.5
    momentum: float = 0.9
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        expect_integer(self.epochs, name="epochs", least=1)
        expect_integer(self.batch_size, name="batch_size", least=1)
        expect_integer(self.seed, name="seed", least=0, below=2**63)
        _expect_one_of(self.optimizer, name="optimizer", names=tuple(OPTIMIZER_DEFAULTS))
        _expect_one_of(self.precision, name="precision", names=PRECISIONS)
        if not _is_number(self.lr) or not 0 < self.lr < math.inf:
            raise ArgumentError(f"lr is {self.lr!r}, but a finite number above 0 is expected")
        if not _is_number(self.momentum) or not 0 <= self.momentum < 1:
            raise ArgumentError(f"momentum is {self.momentum!r}, but a number of at least 0 and below 1 is expected")
        if self.optimizer == "adam" and self.momentum != 0:
            raise ArgumentError(f"momentum is {self.momentum!r}, but it belongs to sgd: leave it out, or 0, with adam")


@dataclass(frozen=True, kw_only=True)
class RunSettings(TrainingSettings):
    """All that decides the result of a training run.

    Attributes:
        data: absolute path of the folder or file with the user's data; None for the built-in photographs.
        noise: how the pictures are corrupted, as `nn_from_scratch.denoise.data.parse_noise` spells it.
        train_size: number of training pairs, at least 1.
        validation_size: number of validation images, at least 1.
        device: where the network is trained, "cpu", "cuda" or "cuda:NUMBER".
        conv: how convolutions are computed, one of `CONVOLUTIONS`. Another algorithm rounds differently.
        threads: torch's processor threads, at least 1. Another number may sum in another order, and so give other bits.
        capture: whether steps are captured once and replayed; on a CPU that changes no bit.

    Raises:
        ArgumentError: a value makes no sense.
    """

    data: str | None = None
    noise: str = "gaussian:sigma=25"
    train_size: int = 50_000
    validation_size: int = 1_000
    device: str = "cpu"
    conv: str = "auto"
    threads: int = 1
    capture: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_size", "validation_size", "threads"):
            expect_integer(getattr(self, name), name=name, least=1)
        _expect_one_of(self.conv, name="conv", names=CONVOLUTIONS)

    @property
    def data_options(self) -> dict[str, Any]:
        """The arguments of `nn_from_scratch.denoise.data.load_pairs`."""
        return {name: getattr(self, name) for name in ("data", "noise", "train_size", "validation_size", "seed")}


def new_settings(explicit: dict[str, Any]) -> RunSettings:
    """The settings of a new run: those that were given, the defaults of the optimizer, the other defaults.

    Raises:
        ArgumentError: a value makes no sense.
    """
    return RunSettings(**{**OPTIMIZER_DEFAULTS[explicit.get("optimizer", "sgd")], **explicit})


def stored_settings(values: dict[str, Any]) -> RunSettings:
    """The settings that a run has stored, perhaps under an older version of this package.

    Raises:
        ArgumentError, TypeError: they are something else.
    """
    # An older name of the same algorithm.
    return RunSettings(**({**values, "conv": "unfold"} if values.get("conv") == "im2col" else values))


def resumed_settings(stored: RunSettings, explicit: dict[str, Any], *, epochs_done: int) -> RunSettings:
    """The settings of a resumed run: its own, with more epochs if they are asked for.

    Raises:
        ArgumentError: a value was given that differs from the run's, or fewer epochs than are done.
    """
    changeable = ("epochs", "capture")
    for name, value in explicit.items():
        own = getattr(stored, name)
        if name not in changeable and value != own:
            option = "--" + name.replace("_", "-")
            raise ArgumentError(
                f"{option} is {value!r}, but the run to resume was started with {own!r}: leave {option} out, "
                "or start a new run"
            )
    settings = replace(stored, **{name: explicit[name] for name in changeable if name in explicit})
    if settings.epochs < epochs_done:
        raise ArgumentError(
            f"--epochs is {settings.epochs}, but the run to resume has {epochs_done} epochs behind it already: "
            "give at least as many"
        )
    return settings


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """One completed epoch.

    Attributes:
        epoch: its number, from 1.
        loss: mean squared error over the training pairs, while the weights moved; values in [0, 1].
        psnr: of the validation images after the epoch, in dB; None without validation images.
        seconds: of the whole epoch, validation included.
        samples_per_second: training pairs a second, validation left out.
    """

    epoch: int
    loss: float
    psnr: float | None
    seconds: float
    samples_per_second: float


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """The state of a run between two steps, apart from the tensors.

    Attributes:
        history: one result for each completed epoch.
        step: steps done in the epoch after those.
        loss_sum: sum over the pairs of these steps of their loss.
        seconds: spent on these steps.
        scale, good_steps: of the loss, in float16, as in `engine.low_precision.LossScale`; else 0.
    """

    history: tuple[EpochResult, ...] = ()
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    scale: float = 0.0
    good_steps: int = 0

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""
        return len(self.history)

    def describe(self) -> str:
        """The progress in words."""
        steps = f" and {self.step} steps of epoch {self.epoch + 1}" if self.step else ""
        return f"{self.epoch} epoch{'' if self.epoch == 1 else 's'}{steps}"

    def to_json(self) -> dict[str, Any]:
        """The progress as JSON values; floats survive exactly."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> TrainingProgress:
        """The inverse of `to_json`.

        Raises:
            CheckpointError: something else was written there.
        """
        try:
            if isinstance(values, dict):
                values = {"scale": 0.0, "good_steps": 0, **values}  # older runs have none
            if not isinstance(values, dict) or set(values) != {field.name for field in fields(cls)}:
                raise TypeError
            progress = cls(
                history=tuple(EpochResult(**entry) for entry in values["history"]),
                step=int(values["step"]),
                loss_sum=float(values["loss_sum"]),
                seconds=float(values["seconds"]),
                scale=float(values["scale"]),
                good_steps=int(values["good_steps"]),
            )
        except (TypeError, ValueError):
            raise CheckpointError(
                f"progress is {values!r}, but a record with history, step, loss_sum and seconds is expected"
            ) from None
        if [result.epoch for result in progress.history] != list(range(1, progress.epoch + 1)) or progress.step < 0:
            raise CheckpointError("progress has a history whose epochs are not 1, 2, 3, ... or a negative step")
        return progress


def expect_integer(value: object, *, name: str, least: int, below: int | None = None) -> None:
    """Refuse what is not an integer in [least, below).

    Raises:
        ArgumentError: it is not.
    """
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (below is not None and isinstance(value, int) and value >= below):
        limit = "" if below is None else f" and below {below}"
        raise ArgumentError(f"{name} is {value!r}, but an integer of at least {least}{limit} is expected")


def _expect_one_of(value: object, *, name: str, names: tuple[str, ...]) -> None:
    if value not in names:
        *others, last = map(repr, names)
        raise ArgumentError(f"{name} is {value!r}, but {', '.join(others)} or {last} is expected")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
