"""What decides the result of a training run, apart from the data: settings, checked without loading torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nn_from_scratch.errors import ArgumentError

__all__ = ["CONVOLUTIONS", "DEFAULT_EPOCHS", "OPTIMIZER_DEFAULTS", "PRECISIONS", "RunSettings", "TrainingSettings"]

#: As many as the report's final model.
DEFAULT_EPOCHS = 10

#: How convolutions may be computed: a name in `engine.convolutions.ALGORITHMS`, or "auto" for the fastest.
CONVOLUTIONS = ("auto", "im2col", "native", "unfold")

#: What forward and backward are computed in.
PRECISIONS = ("float32", "bfloat16", "float16")

#: The report's learning rate and momentum for each optimizer (figure 2).
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
        if self.optimizer not in OPTIMIZER_DEFAULTS:
            raise ArgumentError(f"optimizer is {self.optimizer!r}, but 'sgd' or 'adam' is expected")
        if self.precision not in PRECISIONS:
            raise ArgumentError(f"precision is {self.precision!r}, but 'float32', 'bfloat16' or 'float16' is expected")
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
        threads: processor threads, at least 1. Another number sums in another order, and so gives other bits.
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
        if self.conv not in CONVOLUTIONS:
            raise ArgumentError(f"conv is {self.conv!r}, but 'auto', 'im2col', 'native' or 'unfold' is expected")


def expect_integer(value: object, *, name: str, least: int, below: int | None = None) -> None:
    """Refuse what is not an integer in [least, below).

    Raises:
        ArgumentError: it is not.
    """
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (below is not None and isinstance(value, int) and value >= below):
        limit = "" if below is None else f" and below {below}"
        raise ArgumentError(f"{name} is {value!r}, but an integer of at least {least}{limit} is expected")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
