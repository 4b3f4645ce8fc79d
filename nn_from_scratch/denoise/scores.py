"""How close images are to the clean ones.

Axes: N images, C channels, H height, W width. Values are uint8, 0 to 255.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.errors import DtypeError, ShapeError

__all__ = ["pooled_psnr", "psnr", "psnr_of_each", "ssim"]

#: Mean squared error of rounding to whole values; a smaller one, even 0, counts as this, so that no PSNR is infinite.
_ROUNDING = 1 / 12


def psnr(images: Tensor, clean: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, mean over the images, as is usual for denoising.

    Args:
        images: uint8 (N, C, H, W).
        clean: what they should be, likewise.

    Raises:
        ShapeError, DtypeError: the two do not fit together.
    """
    return float(psnr_of_each(images, clean).mean())


def psnr_of_each(images: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, 10 log10(255^2 / mean squared error), in dB.

    Args:
        images: uint8 (N, C, H, W).
        clean: what they should be, likewise.

    Returns:
        float64 (N,); at most 58.9, the PSNR of an image that differs from the clean one by rounding alone.

    Raises:
        ShapeError, DtypeError: the two do not fit together.
    """
    return _decibel(_squared_error(images, clean))


def pooled_psnr(images: Tensor, clean: Tensor) -> float:
    """Peak signal-to-noise ratio in dB from the mean squared error over all pixels of all images.

    It is never above `psnr`, because the hardest images weigh most.

    Args:
        images: uint8 (N, C, H, W).
        clean: what they should be, likewise.

    Raises:
        ShapeError, DtypeError: the two do not fit together.
    """
    return float(_decibel(_squared_error(images, clean).mean()))


def ssim(images: Tensor, clean: Tensor) -> float:
    """Structural similarity (Wang et al., 2004; windows of 7x7 pixels), mean over the images; 1 for equal ones.

    Args:
        images: uint8 (N, C, H, W), H and W at least 7.
        clean: what they should be, likewise.

    Raises:
        ShapeError, DtypeError: the two do not fit together.
    """
    from skimage.metrics import structural_similarity

    _check(images, clean)
    pairs = zip(images.cpu().numpy(), clean.cpu().numpy(), strict=True)
    values = [
        float(structural_similarity(a, b, channel_axis=0, data_range=255))  # type: ignore[no-untyped-call]
        for a, b in pairs
    ]
    return sum(values) / len(values)


def _decibel(error: Tensor) -> Tensor:
    return 10 * torch.log10(255**2 / error.clamp_min(_ROUNDING))


def _squared_error(images: Tensor, clean: Tensor) -> Tensor:
    _check(images, clean)
    difference = images.to(torch.int32) - clean.to(torch.int32)
    # Sums of integers are exact; the largest image would overflow int32.
    return difference.square().flatten(1).sum(dim=1, dtype=torch.int64).double() / max(1, images[0].numel())


def _check(images: Tensor, clean: Tensor) -> None:
    for name, tensor in (("images", images), ("clean", clean)):
        if tensor.dtype != torch.uint8:
            raise DtypeError(f"{name} has dtype {tensor.dtype}, but torch.uint8 is expected, values 0 to 255")
    if images.shape != clean.shape or images.dim() != 4 or images.numel() == 0:
        raise ShapeError(
            f"images has shape {tuple(images.shape)} and clean {tuple(clean.shape)}, but one shape (N, C, H, W) "
            "with at least one pixel is expected"
        )
