"""How close images are to the clean ones, and to what a classical denoiser makes of them without any training.

Axes: N images, C channels, H height, W width. Values are uint8, 0 to 255.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.errors import DtypeError, ShapeError

#: Mean squared error of rounding to whole values; a smaller one, even 0, counts as this, so that no PSNR is infinite.
_ROUNDING = 1 / 12
#: Images that are compared at most: non-local means takes some milliseconds for each.
MOST_COMPARED = 1000


def psnr(images: Tensor, clean: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, mean over the images, as is usual for denoising.

    Arguments and errors are those of `psnr_of_each`.
    """
    return float(psnr_of_each(images, clean).mean())


def psnr_of_each(images: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, 10 log10(255^2 / mean squared error), in dB.

    Args:
        images, clean: uint8 (N, C, H, W).

    Returns:
        float64 (N,); at most 58.9, the PSNR of an image that differs from the clean one by rounding alone.

    Raises:
        ShapeError, DtypeError: the two do not fit together.
    """
    return _decibel(_squared_error(images, clean))


def pooled_psnr(images: Tensor, clean: Tensor) -> float:
    """Peak signal-to-noise ratio in dB from the mean squared error over all pixels of all images.

    It is never above `psnr`, because the hardest images weigh most. Arguments and errors are those of `psnr_of_each`.
    """
    return float(_decibel(_squared_error(images, clean).mean()))


def ssim(images: Tensor, clean: Tensor) -> float:
    """Structural similarity (Wang et al., 2004; windows of 7x7 pixels), mean over the images; 1 for equal ones.

    Arguments and errors are those of `psnr_of_each`; H and W are at least 7.
    """
    from skimage.metrics import structural_similarity

    _check(images, clean)
    pairs = zip(images.cpu().numpy(), clean.cpu().numpy(), strict=True)
    values = [
        float(structural_similarity(a, b, channel_axis=0, data_range=255))  # type: ignore[no-untyped-call]
        for a, b in pairs
    ]
    return sum(values) / len(values)


@dataclass(frozen=True, kw_only=True)
class Score:
    """The quality of one method of denoising.

    Attributes:
        psnr: mean over the images, in dB.
        pooled_psnr: from the squared error over all pixels of all images, in dB.
        ssim: mean structural similarity, at most 1.
    """

    name: str
    psnr: float
    pooled_psnr: float
    ssim: float


def compare(noisy: Tensor, denoised: Tensor, clean: Tensor) -> tuple[Score, ...]:
    """Score the noisy images, non-local means and the network, on the first `MOST_COMPARED` images.

    Args:
        noisy, denoised, clean: uint8 (N, 3, H, W), H and W at least 7.
    """
    noisy, denoised, clean = (images[:MOST_COMPARED].cpu() for images in (noisy, denoised, clean))
    classical = non_local_means(noisy, sigma=noise_level(noisy, clean))
    return tuple(
        Score(name=name, psnr=psnr(images, clean), pooled_psnr=pooled_psnr(images, clean), ssim=ssim(images, clean))
        for name, images in (("noisy input", noisy), ("non-local means", classical), ("this network", denoised))
    )


def noise_level(noisy: Tensor, clean: Tensor) -> float:
    """Standard deviation of the noise, in units of the 0..255 scale, from images (N, 3, H, W)."""
    return float((noisy.to(torch.int32) - clean.to(torch.int32)).double().std())


def non_local_means(images: Tensor, *, sigma: float) -> Tensor:
    """Denoise with scikit-image's non-local means (patches of 5x5, searched 6 pixels far, h = 0.6 sigma).

    Args:
        images: uint8 (N, 3, H, W).
        sigma: standard deviation of the noise, on the 0..255 scale. Knowing it favors this method.

    Returns:
        uint8 of the same shape.
    """
    from skimage.restoration import denoise_nl_means

    level = max(sigma, 1e-3) / 255
    result = np.stack(
        [
            denoise_nl_means(
                image, h=0.6 * level, sigma=level, patch_size=5, patch_distance=6, fast_mode=True, channel_axis=0
            )
            for image in images.double().div(255).numpy()
        ]
    )
    return torch.from_numpy(result * 255).round().clamp(0, 255).to(torch.uint8)


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
