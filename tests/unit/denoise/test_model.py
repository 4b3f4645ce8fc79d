from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch import Conv2d, ReLU, Sequential
from nn_from_scratch.denoise import model as model_module
from nn_from_scratch.denoise.model import REACH, apply_to_images, architecture, average_over_shifts, report_model
from nn_from_scratch.engine.graph import no_records
from nn_from_scratch.engine.module import Module

Images = Callable[..., Tensor]

LISTING_3 = (
    "Sequential(Conv2d(3, 16, 4, stride=2, padding=1), ReLU(), Conv2d(16, 32, 4, stride=2), ReLU(), "
    "TransposeConv2d(32, 16, 4, stride=2), ReLU(), TransposeConv2d(16, 3, 4, stride=2, padding=1), Sigmoid())"
)


def test_the_model_is_the_reports_listing_3() -> None:
    assert architecture(report_model()) == LISTING_3


def test_the_generator_decides_the_weights() -> None:
    one, two = (report_model(generator=torch.Generator().manual_seed(3)).state_dict() for _ in range(2))
    other = report_model(generator=torch.Generator().manual_seed(4)).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])


def test_dtype_is_that_of_the_parameters() -> None:
    assert {tensor.dtype for tensor in report_model(dtype=torch.float64).parameters().values()} == {torch.float64}


def test_no_output_depends_on_a_pixel_beyond_the_reach() -> None:
    model = report_model(dtype=torch.float64)
    x = torch.rand(1, 3, 48, 48, dtype=torch.float64)
    with no_records():
        before = model(x)
        farthest = 0
        for place in range(20, 24):  # one for each phase of the two strides
            moved = x.clone()
            moved[:, :, place, place] += 1
            changed = (model(moved) - before).abs().sum(dim=1)[0].nonzero()
            farthest = max(farthest, int((changed - place).abs().max()))
    assert farthest == REACH


def test_the_architecture_is_one_line() -> None:
    assert architecture(Sequential(Conv2d(3, 4, 2), ReLU())) == "Sequential(Conv2d(3, 4, 2), ReLU())"


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


@pytest.mark.parametrize(("H", "W"), [(1, 1), (2, 3), (10, 16)])
def test_the_average_is_over_four_shifts_of_the_reflected_image(model: Module, images: Images, H: int, W: int) -> None:
    image = images(2, 3, H, W)
    moved = []
    for shift in range(4):
        padded = np.pad(
            image.numpy(), [(0, 0), (0, 0), (shift, 0), (shift, 0)], mode="reflect" if min(H, W) > 1 else "edge"
        )
        moved.append(apply_to_images(model, torch.from_numpy(padded))[:, :, shift:, shift:])
    mean = torch.stack(moved).double().mean(0)
    assert (average_over_shifts(model, image).double() - mean).abs().max() <= 0.5


def test_never_more_pixels_at_once_than_stated(model: Module, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(x: Tensor) -> Tensor:
        seen.append(x.shape[0] * x.shape[2] * x.shape[3])
        return x

    monkeypatch.setattr(model_module, "_PIXELS", 3 * 64)
    monkeypatch.setattr(model, "forward", watched)
    batch = images(7, 3, 8, 8)
    assert torch.equal(apply_to_images(model, batch), batch)
    assert seen == [192, 192, 64]


def test_no_record_is_kept(model: Module, images: Images) -> None:
    apply_to_images(model, images(1, 3, 8, 8))
    assert not model.xs
    assert not any(module.xs for module in model.modules() if isinstance(module, Module))
