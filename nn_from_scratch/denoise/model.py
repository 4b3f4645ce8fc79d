"""The network of the report, how an architecture is written down, and applying it to images of any size.

Axes: N images, C = 3 channels, H height, W width. Pixel values are uint8, 0 to 255; the model sees them in [0, 1].
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from nn_from_scratch.engine.graph import no_records
from nn_from_scratch.engine.layers import Conv2d, ReLU, Sigmoid, TransposeConv2d
from nn_from_scratch.engine.module import Module, Sequential

#: Heights and widths that the report's model gives back unchanged are multiples of this ...
SIZE_STEP = 4
#: ... and at least this.
LEAST_SIZE = 8
#: No entry of its output depends on an input pixel that is further away, in rows or columns.
REACH = 9
#: Pixels that go through the model at once; the columns of its convolutions take about 1 kB for each.
_PIXELS = 512 * 512


def report_model(
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Sequential:
    """Make the report's denoising network (report, Listing 3), newly initialized.

    Input and output (N, 3, H, W), values in [0, 1], where H and W are multiples of 4 and at least 8.

    Args:
        generator: source of the initial values; torch's global one by default.
        dtype, device: of the parameters; torch's defaults by default.

    Raises:
        DtypeError: dtype is not a floating-point one.
    """

    def convolution(c: int, channels: int, *, padding: int = 0) -> Conv2d:
        return Conv2d(c, channels, 4, stride=2, padding=padding, generator=generator, dtype=dtype, device=device)

    def transpose(c: int, channels: int, *, padding: int = 0) -> TransposeConv2d:
        return TransposeConv2d(
            c, channels, 4, stride=2, padding=padding, generator=generator, dtype=dtype, device=device
        )

    return Sequential(
        convolution(3, 16, padding=1),
        ReLU(),
        convolution(16, 32),
        ReLU(),
        transpose(32, 16),
        ReLU(),
        transpose(16, 3, padding=1),
        Sigmoid(),
    )


def architecture(model: Module) -> str:
    """The architecture on one line, as the layers write themselves."""
    return re.sub(r"\s+", " ", repr(model))


def apply_to_images(model: Module, images: Tensor, *, tile: int = 488) -> Tensor:
    """Run a model on uint8 images of any size and give uint8 images of that size.

    An image is continued by reflection to the next size that the model gives back unchanged. A large one is cut
    into tiles that overlap by more than the model reaches, so that a pixel is computed from all that it depends on.

    Args:
        model: maps (N, 3, H, W) to the same shape, as `report_model()` does.
        images: uint8 (N, 3, H, W), H and W at least 1, on any device.
        tile: rows and columns of the part of a tile that is kept, rounded up to the model's step.

    Returns:
        uint8 (N, 3, H, W), on the device of `images`.
    """
    parameter = next(iter(model.parameters().values()))
    N, _, H, W = images.shape
    rows, columns = _continued(H), _continued(W)
    core = -(-tile // SIZE_STEP) * SIZE_STEP
    margin = -(-REACH // SIZE_STEP) * SIZE_STEP
    result = torch.empty_like(images)
    with torch.no_grad(), no_records():
        for top in range(0, H, core):
            y0, y1 = max(0, top - margin), min(len(rows), top + core + margin)
            for left in range(0, W, core):
                x0, x1 = max(0, left - margin), min(len(columns), left + core + margin)
                together = max(1, _PIXELS // ((y1 - y0) * (x1 - x0)))
                for first in range(0, N, together):
                    part = images[first : first + together]
                    part = part[:, :, rows[y0:y1].to(part.device)][:, :, :, columns[x0:x1].to(part.device)]
                    y = model(part.to(parameter.device).to(parameter.dtype).div_(255))
                    kept = y[:, :, top - y0 : top - y0 + core, left - x0 : left - x0 + core]
                    kept = kept[:, :, : H - top, : W - left]
                    pixels = kept.mul(255).round_().clamp_(0, 255).to(device=images.device, dtype=torch.uint8)
                    result[first : first + together, :, top : top + core, left : left + core] = pixels
    return result


def average_over_shifts(model: Module, images: Tensor) -> Tensor:
    """Run a model on uint8 images moved by 0, 1, 2 and 3 pixels both ways, and average what comes back.

    A transposed convolution treats the pixels of each block of its stride differently, and the report's model has two
    of stride 2: in even, bright areas a grid of 4 pixels is visible. Averaged over the phases of the grid it cancels
    ("cycle spinning": Coifman and Donoho, Translation-Invariant De-Noising, 1995). It takes four times as long.

    Args:
        model: maps (N, 3, H, W) to the same shape, as `report_model()` does.
        images: uint8 (N, 3, H, W), H and W at least 1, on any device.

    Returns:
        uint8 (N, 3, H, W), on the device of `images`.
    """
    H, W = images.shape[2:]
    total = torch.zeros(images.shape, dtype=torch.int32, device=images.device)
    for shift in range(SIZE_STEP):
        rows, columns = (_reflected(torch.arange(-shift, size), size).to(images.device) for size in (H, W))
        moved = images[:, :, rows][:, :, :, columns]  # (N, 3, H + shift, W + shift)
        total += apply_to_images(model, moved)[:, :, shift:, shift:]
    return total.add_(SIZE_STEP // 2).div_(SIZE_STEP, rounding_mode="floor").to(torch.uint8)


def _continued(size: int) -> Tensor:
    """The rows (or columns) that make up the continued image: 0 1 2 ... size-1, then back, then forth again."""
    least = max(LEAST_SIZE, -(-size // SIZE_STEP) * SIZE_STEP)
    return _reflected(torch.arange(least), size)


def _reflected(places: Tensor, size: int) -> Tensor:
    """Places of any integer value, led back into 0 ... size-1 by reflection at both ends."""
    if size == 1:
        return torch.zeros_like(places)
    phase = places % (2 * size - 2)
    return torch.minimum(phase, 2 * size - 2 - phase)
