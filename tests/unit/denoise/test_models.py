from __future__ import annotations

import torch

from nn_from_scratch import Conv2d, ReLU, Sequential
from nn_from_scratch.denoise.model import REACH, architecture, report_model
from nn_from_scratch.engine.graph import no_records

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
