from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nn_from_scratch.denoise.scores import compare, noise_level, non_local_means, pooled_psnr, psnr, psnr_of_each, ssim
from nn_from_scratch.errors import DtypeError, ShapeError

Images = Callable[..., Tensor]


def test_psnr_of_a_known_error() -> None:
    clean = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    images = clean.clone()
    images[0] += 10
    images[1] += 20
    expected = [20 * math.log10(255 / 10), 20 * math.log10(255 / 20)]
    assert psnr_of_each(images, clean).tolist() == pytest.approx(expected, rel=1e-12)
    assert psnr(images, clean) == pytest.approx(sum(expected) / 2, rel=1e-12)
    assert pooled_psnr(images, clean) == pytest.approx(10 * math.log10(255**2 / 250), rel=1e-12)


def test_psnr_of_each_is_scikit_images(images: Images) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    a, b = images(3, 3, 9, 8), images(3, 3, 9, 8, seed=1)
    expected = [peak_signal_noise_ratio(y.numpy(), x.numpy(), data_range=255) for x, y in zip(a, b, strict=True)]
    assert psnr_of_each(a, b).tolist() == pytest.approx(expected, rel=1e-12)


def test_equal_images_have_the_psnr_of_rounding_and_ssim_one(images: Images) -> None:
    a = images(2, 3, 8, 8)
    assert psnr(a, a) == pooled_psnr(a, a) == pytest.approx(10 * math.log10(255**2 * 12))
    assert ssim(a, a) == pytest.approx(1)


def test_ssim_falls_with_noise(images: Images) -> None:
    clean = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    assert ssim(images(1, 3, 16, 16), clean) < 0.3


def test_wrong_images_are_refused(images: Images) -> None:
    a = images(2, 3, 8, 8)
    with pytest.raises(DtypeError, match=r"images has dtype torch.float32, but torch.uint8 is expected"):
        psnr(a.float(), a)
    with pytest.raises(ShapeError, match=r"images has shape \(1, 3, 8, 8\) and clean \(2, 3, 8, 8\)"):
        psnr(a[:1], a)


def test_non_local_means_denoises_and_the_scores_say_so(images: Images) -> None:
    clean = torch.full((4, 3, 16, 16), 128, dtype=torch.uint8)
    noisy = (clean.float() + 20 * torch.randn(clean.shape)).round().clamp(0, 255).to(torch.uint8)
    assert noise_level(noisy, clean) == pytest.approx(20, rel=0.1)
    assert psnr(non_local_means(noisy, sigma=20), clean) > psnr(noisy, clean) + 8
    scores = compare(noisy, clean - 1, clean)
    assert [score.name for score in scores] == ["noisy input", "non-local means", "this network"]
    assert scores[0].psnr < scores[1].psnr < scores[2].psnr == pytest.approx(48.13, abs=0.01)
    assert scores[0].ssim < scores[1].ssim < scores[2].ssim
    assert all(score.pooled_psnr <= score.psnr for score in scores)


def test_non_local_means_of_images_without_noise() -> None:
    clean = torch.full((1, 3, 16, 16), 128, dtype=torch.uint8)
    assert torch.equal(non_local_means(clean, sigma=0.0), clean)
