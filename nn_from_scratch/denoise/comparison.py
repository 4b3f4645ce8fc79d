"""How good the network is: beside doing nothing, and beside a classical denoiser that needs no training.

Axes: N images, C = 3 channels, H height, W width. Values are uint8, 0 to 255.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.denoise.scores import pooled_psnr, psnr, ssim

__all__ = ["MOST_COMPARED", "Score", "compare", "noise_level", "non_local_means"]

#: So many images are compared at most: non-local means takes some milliseconds for each.
MOST_COMPARED = 1000


@dataclass(frozen=True, kw_only=True)
class Score:
    """The quality of one way to denoise.

    Attributes:
        name: which way.
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
        Score(
            name=name,
            psnr=psnr(images, clean),
            pooled_psnr=pooled_psnr(images, clean),
            ssim=ssim(images, clean),
        )
        for name, images in (("noisy input", noisy), ("non-local means", classical), ("this network", denoised))
    )


def noise_level(noisy: Tensor, clean: Tensor) -> float:
    """Standard deviation of the noise, in units of the 0..255 scale, from images (N, 3, H, W)."""
    return float((noisy.to(torch.int32) - clean.to(torch.int32)).double().std())


def non_local_means(images: Tensor, *, sigma: float) -> Tensor:
    """Denoise with scikit-image's non-local means (patches of 5x5, searched 6 pixels far, h = 0.6 sigma).

    Args:
        images: uint8 (N, 3, H, W).
        sigma: standard deviation of the noise, on the 0..255 scale. Knowing it favours this method.

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
