from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nn_from_scratch.denoise import tiling
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.tiling import apply_to_images
from nn_from_scratch.engine.module import Module

Images = Callable[..., Tensor]


@pytest.fixture
def model() -> Module:
    return report_model(generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("H", "W"), [(1, 1), (1, 9), (2, 3), (7, 8), (31, 33), (40, 64)])
def test_any_size_comes_back(model: Module, images: Images, H: int, W: int) -> None:
    result = apply_to_images(model, images(2, 3, H, W))
    assert result.shape == (2, 3, H, W)
    assert result.dtype == torch.uint8


def test_a_fitting_size_is_the_model_alone(model: Module, images: Images) -> None:
    batch = images(3, 3, 16, 24)
    expected = model(batch.float() / 255).mul(255).round().to(torch.uint8)
    assert torch.equal(apply_to_images(model, batch), expected)


@pytest.mark.parametrize("tile", [16, 36, 37])
def test_tiles_give_what_the_whole_gives(model: Module, images: Images, tile: int) -> None:
    batch = images(2, 3, 83, 70)
    assert torch.equal(apply_to_images(model, batch, tile=tile), apply_to_images(model, batch, tile=1000))


def test_an_image_is_continued_by_reflection(model: Module, images: Images) -> None:
    image = images(1, 3, 10, 16)
    continued = torch.cat([image, image[:, :, [8, 7]]], dim=2)  # (1, 3, 12, 16)
    assert torch.equal(apply_to_images(model, image), apply_to_images(model, continued)[:, :, :10])


def test_never_more_pixels_at_once_than_stated(model: Module, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(x: Tensor) -> Tensor:
        seen.append(x.shape[0] * x.shape[2] * x.shape[3])
        return x

    monkeypatch.setattr(tiling, "_PIXELS", 3 * 64)
    monkeypatch.setattr(model, "forward", watched)
    batch = images(7, 3, 8, 8)
    assert torch.equal(apply_to_images(model, batch), batch)
    assert seen == [192, 192, 64]


def test_no_record_is_kept(model: Module, images: Images) -> None:
    apply_to_images(model, images(1, 3, 8, 8))
    assert not model.xs
    assert not any(module.xs for module in model.modules() if isinstance(module, Module))
