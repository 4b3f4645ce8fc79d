"""Training in bfloat16 and float16."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.settings import TrainingSettings
from nn_from_scratch.engine.low_precision import FIRST_SCALE, PATIENCE, LossScale, LowPrecisionStep
from nn_from_scratch.errors import ArgumentError

LOW = [torch.bfloat16, torch.float16]


def made(dtype: torch.dtype, *, scale: LossScale | None = None) -> tuple[nn.Module, LowPrecisionStep]:
    model = report_model(generator=torch.Generator().manual_seed(0))
    optimizer = nn.SGD(model, lr=0.5, momentum=0.9)
    return model, LowPrecisionStep(model, nn.MSE(), optimizer, dtype=dtype, scale=scale)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 3, 8, 8, generator=generator), torch.rand(4, 3, 8, 8, generator=generator)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_losses_follow_those_of_float32_within_the_rounding_of_the_dtype(dtype: torch.dtype) -> None:
    model, step = made(dtype)
    twin = report_model(generator=torch.Generator().manual_seed(0))
    reference = nn.TrainingStep(twin, nn.MSE(), nn.SGD(twin, lr=0.5, momentum=0.9))
    x, y = batch()
    found = torch.stack([step(x, y) for _ in range(30)])
    expected = torch.stack([reference(x, y) for _ in range(30)])
    assert float(expected[-1]) < 0.985 * float(expected[0])
    torch.testing.assert_close(found, expected, rtol=4 * torch.finfo(dtype).eps, atol=0.0)
    assert found.dtype == torch.float32 and all(p.dtype == torch.float32 for p in model.parameters().values())


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_steps_too_small_for_the_low_dtype_are_not_lost(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    model.parameters()["0.weight"].fill_(1.0)
    step = LowPrecisionStep(model, nn.MSE(), nn.SGD(model, lr=1e-5), dtype=dtype, scale=LossScale(8.0))
    for _ in range(10):
        step(torch.ones(1, 1), torch.zeros(1, 1))
    assert float(model.parameters()["0.weight"]) == pytest.approx(1 - 2e-4, abs=1e-6)


def test_a_scale_saves_gradients_that_float16_cannot_hold() -> None:
    weights = {}
    for factor in (1.0, FIRST_SCALE):
        model = nn.Sequential(nn.Linear(1, 1, bias=False))
        model.parameters()["0.weight"].fill_(1.0)
        step = LowPrecisionStep(model, nn.MSE(), nn.SGD(model, lr=1e4), dtype=torch.float16, scale=LossScale(factor))
        step(torch.full((1, 1), 1e-4), torch.zeros(1, 1))  # the gradient is 2e-8
        weights[factor] = float(model.parameters()["0.weight"])
    assert weights[FIRST_SCALE] == pytest.approx(1 - 2e-4, abs=2e-6)
    assert weights[1.0] != pytest.approx(1 - 2e-4, abs=2e-6)


def test_a_step_that_overflows_is_left_out_and_the_scale_halved() -> None:
    scale = LossScale(2.0**40)
    model, step = made(torch.float16, scale=scale)
    before = {name: p.clone() for name, p in model.parameters().items()}
    step(*batch())
    assert all(torch.equal(p, before[name]) for name, p in model.parameters().items())
    assert scale.scale == 2.0**39 and not step.optimizer.state_dict()
    while scale.good == 0:
        step(*batch())
    assert any(not torch.equal(p, before[name]) for name, p in model.parameters().items())


def test_the_scale_is_doubled_after_enough_good_steps() -> None:
    scale = LossScale(8.0, good=PATIENCE - 2)
    scale.update(overflowed=False)
    assert (scale.scale, scale.good) == (8.0, PATIENCE - 1)
    scale.update(overflowed=False)
    assert (scale.scale, scale.good) == (16.0, 0)


def test_running_statistics_come_back() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3))
    step = LowPrecisionStep(model, nn.MSE(), nn.SGD(model, lr=0.1), dtype=torch.bfloat16)
    x, y = batch()
    step(x, y)
    torch.testing.assert_close(model.buffers()["0.running_mean"], 0.1 * x.mean(dim=(0, 2, 3)), rtol=2e-2, atol=0.0)


def test_nothing_is_left_behind() -> None:
    model, step = made(torch.bfloat16)
    step(*batch())
    modules = [module for owner in (model, step._low) for module in owner.all_modules()]
    assert not any(module.xs for module in modules if isinstance(module, nn.Module))
    assert all(p.grad is None for owner in (model, step._low) for p in owner.parameters().values())


def test_what_makes_no_sense_is_refused() -> None:
    model = report_model()
    with pytest.raises(ArgumentError, match="dtype is torch.float64, but torch.bfloat16 or torch.float16 is expected"):
        LowPrecisionStep(model, nn.MSE(), nn.SGD(model, lr=0.1), dtype=torch.float64)
    double = report_model(dtype=torch.float64)
    with pytest.raises(ArgumentError, match=r"parameter '0.weight' is in torch.float64, but torch.float32 is expected"):
        LowPrecisionStep(double, nn.MSE(), nn.SGD(double, lr=0.1), dtype=torch.bfloat16)
    with pytest.raises(ArgumentError, match=r"scale is 0.0, but a positive number is expected"):
        LossScale(0.0)
    with pytest.raises(ArgumentError, match="precision is 'int8', but 'float32', 'bfloat16' or 'float16' is expected"):
        TrainingSettings(precision="int8")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_on_a_gpu_losses_follow_those_of_float32(dtype: torch.dtype) -> None:
    model = report_model(generator=torch.Generator().manual_seed(0)).cuda()
    step = LowPrecisionStep(model, nn.MSE(), nn.SGD(model, lr=0.5, momentum=0.9), dtype=dtype)
    x, y = (tensor.cuda() for tensor in batch())
    _, reference = made(dtype)
    found = torch.stack([step(x, y) for _ in range(5)]).cpu()
    torch.testing.assert_close(
        found, torch.stack([reference(*batch()) for _ in range(5)]), rtol=8 * torch.finfo(dtype).eps, atol=0.0
    )
