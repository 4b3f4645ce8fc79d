"""The denoiser as one object: fitted to noisy pairs, it denoises pictures.

Axes: N images, C = 3 channels, H height, W width. Values are uint8, 0 to 255.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import Self

from nn_from_scratch.denoise.checkpoints import load_checkpoint, save_checkpoint
from nn_from_scratch.denoise.data import PairSet
from nn_from_scratch.denoise.model import average_over_shifts, report_model
from nn_from_scratch.denoise.settings import OPTIMIZER_DEFAULTS, EpochResult, TrainingProgress, TrainingSettings
from nn_from_scratch.denoise.training import check_device, make_optimizer, train
from nn_from_scratch.engine.module import Module
from nn_from_scratch.errors import CheckpointError, DtypeError, ShapeError

#: The file in a run folder that holds the model.
CHECKPOINT_NAME = "checkpoint.safetensors"

Images = TypeVar("Images", Tensor, npt.NDArray[np.uint8])


class Denoiser:
    """The report's network, which learns to denoise from noisy images alone.

    Example:
        >>> denoiser = Denoiser.pretrained()
        >>> denoised = denoiser.predict(noisy)  # doctest: +SKIP

    Args:
        seed: of the initial weights.
        device: "cpu", "cuda" or "cuda:NUMBER".

    Attributes:
        information: JSON values that say how it was trained.

    Raises:
        ArgumentError, DeviceError: an argument makes no sense here.
    """

    def __init__(self, *, seed: int = 0, device: str | torch.device = "cpu") -> None:
        TrainingSettings(seed=seed)
        self.model: Module = report_model(generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
        self.model.to(check_device(str(device)))
        self.information: dict[str, Any] = {}

    def fit(
        self,
        inputs: Tensor | npt.NDArray[np.uint8],
        targets: Tensor | npt.NDArray[np.uint8],
        *,
        validation: tuple[Tensor | npt.NDArray[np.uint8], Tensor | npt.NDArray[np.uint8]] | None = None,
        on_epoch: Callable[[TrainingProgress], None] | None = None,
        **settings: Any,
    ) -> tuple[EpochResult, ...]:
        """Train on from the present weights; gives one result for each epoch.

        Args:
            inputs, targets: uint8 (N, 3, H, W), two independent corruptions of the same pictures; H and W multiples
                of 4 and at least 8. No clean image is needed.
            validation: noisy and clean images, uint8 (M, 3, H', W'), if a PSNR after each epoch is wanted.
            settings: fields of `TrainingSettings`; the learning rate and the momentum that are not given are the
                report's for the optimizer.

        Raises:
            ArgumentError, ShapeError, DtypeError: an argument makes no sense.
            DivergenceError: the loss is no longer finite.
        """
        unknown = settings.keys() - {field.name for field in fields(TrainingSettings)}
        if unknown:
            raise TypeError(f"fit() got unexpected settings {', '.join(sorted(unknown))}")
        chosen = TrainingSettings(**{**OPTIMIZER_DEFAULTS.get(settings.get("optimizer", "sgd"), {}), **settings})
        a, b = _tensor(inputs, name="inputs"), _tensor(targets, name="targets")
        # A `PairSet` needs validation images; these are placeholders that nothing reads.
        noisy, clean = validation or (a[:1], b[:1])
        pairs = PairSet(
            a,
            b,
            _tensor(noisy, name="validation[0]"),
            _tensor(clean, name="validation[1]"),
            source="arguments of fit",
            noise="that of the images",
        )
        optimizer = make_optimizer(self.model, chosen)
        done = train(self.model, optimizer, pairs, settings=chosen, validate=validation is not None, on_epoch=on_epoch)
        return done.history

    def predict(self, images: Images) -> Images:
        """Denoise images of any size.

        The result is an average over four shifts of the image, without which a grid of 4 pixels would be visible in
        bright areas (`model.average_over_shifts`).

        Args:
            images: uint8, a batch (N, 3, H, W) or one picture (H, W, 3); a tensor or a NumPy array.

        Returns:
            uint8 of the same shape and type, a tensor on the same device.

        Raises:
            DtypeError, ShapeError: images is something else.
        """
        batch = _tensor(images, name="images")
        if batch.dim() == 3 and batch.shape[2] == 3:
            batch = batch.permute(2, 0, 1)[None]  # (1, 3, H, W)
        if batch.dim() != 4 or batch.shape[1] != 3 or min(batch.shape[2:]) < 1:
            raise ShapeError(
                f"images has shape {tuple(images.shape)}, but (N, 3, H, W), or (H, W, 3) for one picture, is expected"
            )
        result = average_over_shifts(self.model, batch)
        if images.ndim == 3:
            result = result[0].permute(1, 2, 0).contiguous()  # (H, W, 3)
        return result if isinstance(images, Tensor) else result.numpy()

    def save(self, path: str | Path) -> None:
        """Write the model into one file, atomically; an existing one is replaced.

        Raises:
            CheckpointError: it cannot be written.
        """
        save_checkpoint(Path(path), self.model, information=self.information)

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu") -> Self:
        """Read a model from a file that `save` wrote, or from the folder of a training run.

        Raises:
            CheckpointError: it is missing, damaged, of another architecture, or has weights that are not finite.
            DeviceError: the device is not available.
        """
        path = Path(path)
        if path.is_dir():
            if not (path / CHECKPOINT_NAME).exists():
                raise CheckpointError(f"model {str(path)!r} is a folder without {CHECKPOINT_NAME}: not a training run")
            path = path / CHECKPOINT_NAME
        denoiser = cls()
        checkpoint = load_checkpoint(path, denoiser.model)
        checkpoint.restore(denoiser.model)
        denoiser.model.to(check_device(str(device)))
        denoiser.information = checkpoint.information
        return denoiser

    @classmethod
    def pretrained(cls, *, device: str | torch.device = "cpu") -> Self:
        """Give the model that comes with the package; `information` says how it was trained.

        Raises:
            DeviceError: the device is not available.
        """
        with resources.as_file(resources.files("nn_from_scratch.denoise") / "pretrained" / "model.safetensors") as path:
            return cls.load(path, device=device)


def _tensor(images: Tensor | npt.NDArray[np.uint8], *, name: str) -> Tensor:
    if not isinstance(images, Tensor | np.ndarray):
        raise DtypeError(f"{name} is a {type(images).__name__}, but a torch.Tensor or a numpy.ndarray is expected")
    if images.dtype not in (torch.uint8, np.uint8):
        raise DtypeError(f"{name} has dtype {images.dtype}, but uint8 is expected, values 0 to 255")
    # A copy: torch cannot share memory with arrays that are read-only or run backwards.
    return images if isinstance(images, Tensor) else torch.from_numpy(images.copy())
