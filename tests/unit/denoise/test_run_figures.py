from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor

from nn_from_scratch.denoise.run_figures import draw_grid, draw_training_curve
from nn_from_scratch.denoise.settings import EpochResult

Images = Callable[..., Tensor]


@pytest.mark.parametrize("psnr", [25.0, None])
@pytest.mark.parametrize("epochs", [1, 3])
def test_the_training_curve_is_a_png(tmp_path: Path, psnr: float | None, epochs: int) -> None:
    history = [
        EpochResult(epoch=e, loss=1 / e, psnr=psnr, seconds=1, samples_per_second=1) for e in range(1, epochs + 1)
    ]
    draw_training_curve(tmp_path / "curve.png", history, noisy_psnr=psnr)
    with Image.open(tmp_path / "curve.png") as image:
        assert image.format == "PNG"
        assert image.width > 900


@pytest.mark.parametrize("count", [1, 11])
def test_the_grid_is_a_png(tmp_path: Path, images: Images, count: int) -> None:
    draw_grid(tmp_path / "grid.png", images(count, 3, 8, 8), images(count, 3, 8, 8, seed=1), images(count, 3, 8, 8))
    with Image.open(tmp_path / "grid.png") as image:
        assert image.format == "PNG"
        assert image.height > 500
