"""Applying the report's model to images of any size, in bounded memory.

Axes: N images, C = 3 channels, H height, W width. Pixel values are uint8, 0 to 255; the model sees them in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.denoise.model import LEAST_SIZE, REACH, SIZE_STEP
from nn_from_scratch.engine.graph import no_records
from nn_from_scratch.engine.module import Module

__all__ = ["apply_to_images", "to_unit_interval"]

#: Pixels that go through the model at once; the columns of its convolutions take about 1 kB for each.
_PIXELS = 512 * 512


def to_unit_interval(images: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Pixel values 0..255 as floating-point values in [0, 1], of the same shape."""
    return images.to(dtype).div_(255)


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
                    y = model(to_unit_interval(part.to(parameter.device), dtype=parameter.dtype))
                    kept = y[:, :, top - y0 : top - y0 + core, left - x0 : left - x0 + core]
                    kept = kept[:, :, : H - top, : W - left]
                    pixels = kept.mul(255).round_().clamp_(0, 255).to(device=images.device, dtype=torch.uint8)
                    result[first : first + together, :, top : top + core, left : left + core] = pixels
    return result


def _continued(size: int) -> Tensor:
    """Where the rows (or columns) of the continued image come from: 0 1 2 ... size-1, then back, then forth again."""
    least = max(LEAST_SIZE, -(-size // SIZE_STEP) * SIZE_STEP)
    if size == 1:
        return torch.zeros(least, dtype=torch.int64)
    phase = torch.arange(least) % (2 * size - 2)
    return torch.minimum(phase, 2 * size - 2 - phase)
