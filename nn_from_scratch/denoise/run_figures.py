"""The two figures of a training run."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.denoise.scores import psnr_of_each
from nn_from_scratch.denoise.settings import EpochResult
from nn_from_scratch.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_training_curve(path: Path, history: Sequence[EpochResult], *, noisy_psnr: float | None) -> None:
    """Draw the loss and the validation PSNR over the epochs.

    Args:
        history: at least one epoch.
        noisy_psnr: PSNR of the noisy validation images, in dB, drawn for comparison.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    plot_history(figure.subplots(1, 2), history, noisy_psnr=noisy_psnr)
    _save(figure, path)


def plot_history(both: Iterable[Axes], history: Sequence[EpochResult], *, noisy_psnr: float | None) -> None:
    """Plot the loss into the first axes and the validation PSNR into the second, in the colors of the current style."""
    from matplotlib.ticker import MaxNLocator

    left, right = both
    epochs = [result.epoch for result in history]
    left.plot(epochs, [result.loss for result in history], marker="o", color="C0")
    left.set(title="Training loss", xlabel="epoch", ylabel="mean squared error")
    measured = [(result.epoch, result.psnr) for result in history if result.psnr is not None]
    last = f", {measured[-1][1]:.2f} dB in the end" if measured else ""
    right.plot(*([pair[side] for pair in measured] for side in (0, 1)), marker="s", color="C1", label=f"denoised{last}")
    if noisy_psnr is not None:
        right.axhline(noisy_psnr, color="black", linestyle="--", label=f"noisy input, {noisy_psnr:.2f} dB")
    # Below the axes, where it can hide no point.
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
    right.set(title="Validation images", xlabel="epoch", ylabel="PSNR in dB")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)


def draw_grid(path: Path, noisy: Tensor, denoised: Tensor, clean: Tensor, *, columns: int = 8) -> None:
    """Draw some images noisy, denoised and clean, with the PSNR of each.

    Args:
        noisy, denoised, clean: uint8 (N, 3, H, W), at least one image; some spread over all N are taken.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    chosen = torch.linspace(0, len(clean) - 1, min(columns, len(clean))).round().long()
    noisy, denoised, clean = noisy[chosen].cpu(), denoised[chosen].cpu(), clean[chosen].cpu()
    figure = Figure(figsize=(1.6 * len(chosen) + 1.0, 5.8), layout="constrained")
    axes = figure.subplots(3, len(chosen), squeeze=False)
    for row, (name, images) in enumerate((("noisy", noisy), ("denoised", denoised), ("clean", clean))):
        values = psnr_of_each(images, clean)
        for column, image in enumerate(images):
            place = axes[row][column]
            place.imshow(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), interpolation="nearest")
            place.set(xticks=[], yticks=[])
            if row < 2:
                place.set_xlabel(f"{float(values[column]):.2f} dB", fontsize=12)
        axes[row][0].set_ylabel(name, fontsize=14)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())
