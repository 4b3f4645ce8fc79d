"""How far a training run has come: what is shown, saved in `history.json` and taken up again on resume."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from nn_from_scratch.errors import CheckpointError

__all__ = ["EpochResult", "Progress"]


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
class Progress:
    """The state of a run between two steps, apart from the tensors.

    Attributes:
        history: one result for each completed epoch.
        step: steps done in the epoch after those.
        loss_sum: sum over the pairs of these steps of their loss.
        seconds: spent on these steps.
        scale, good_steps: of the loss, in float16, as in `precision.LossScale`; else 0.
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
        """Where this is, in words."""
        steps = f" and {self.step} steps of epoch {self.epoch + 1}" if self.step else ""
        return f"{self.epoch} epoch{'' if self.epoch == 1 else 's'}{steps}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values; floats survive exactly."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> Progress:
        """The inverse of `to_json`.

        Raises:
            CheckpointError: something else was written there.
        """
        try:
            if isinstance(values, dict):
                values = {"scale": 0.0, "good_steps": 0, **values}  # older runs have none
            if not isinstance(values, dict) or set(values) != {field.name for field in fields(cls)}:
                raise TypeError
            history = tuple(EpochResult(**entry) for entry in values["history"])
            step, loss_sum, seconds = int(values["step"]), float(values["loss_sum"]), float(values["seconds"])
            scale, good_steps = float(values["scale"]), int(values["good_steps"])
        except (TypeError, ValueError):
            raise CheckpointError(
                f"progress is {values!r}, but a record with history, step, loss_sum and seconds is expected"
            ) from None
        if [result.epoch for result in history] != list(range(1, len(history) + 1)) or step < 0:
            raise CheckpointError("progress has a history whose epochs are not 1, 2, 3, ... or a negative step")
        return cls(history=history, step=step, loss_sum=loss_sum, seconds=seconds, scale=scale, good_steps=good_steps)
