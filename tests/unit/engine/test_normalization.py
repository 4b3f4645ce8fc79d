"""Normalization: running statistics, modes, state, misuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError, DtypeError, ShapeError, StateDictError


@pytest.mark.parametrize("options", [{}, {"momentum": 0.3}, {"momentum": None}, {"affine": False}, {"eps": 0.1}])
def test_running_statistics_are_torchs_over_several_batches(options: dict[str, float | None]) -> None:
    ours = nn.BatchNorm2d(3, dtype=torch.float64, **options)  # type: ignore[arg-type]  # of several types
    theirs = torch.nn.BatchNorm2d(3, dtype=torch.float64, **options)  # type: ignore[arg-type]  # of several types
    for _ in range(4):
        x = torch.randn(2, 3, 4, 5, dtype=torch.float64) * 2 + 1
        torch.testing.assert_close(ours(x), theirs(x).detach(), rtol=1e-12, atol=1e-13)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=1e-12, atol=1e-13)
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x).detach(), rtol=1e-12, atol=1e-13)
    assert torch.equal(ours.state_dict()["num_batches_tracked"], torch.tensor(4))


def test_without_tracking_the_batch_counts_in_both_modes_and_nothing_is_kept() -> None:
    layer, x = nn.BatchNorm2d(3, track_running_stats=False), torch.randn(2, 3, 4, 5)
    training = layer(x)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert torch.equal(layer.eval()(x), training)


def test_a_gradient_in_evaluation_is_that_of_the_statistics_of_its_forward_pass() -> None:
    layer, x = nn.BatchNorm2d(1, dtype=torch.float64), torch.randn(4, 1, 3, 3, dtype=torch.float64)
    y = layer.eval()(x)
    layer.train()(10 * x)  # moves the running statistics
    torch.testing.assert_close(nn.backward(y), torch.full_like(x, (1 + 1e-5) ** -0.5))


def test_modes_reach_every_module_inside() -> None:
    model = nn.Sequential(nn.Sequential(nn.BatchNorm2d(2)), nn.Dropout())
    assert model.eval() is model
    assert not any(module.training for module in model.all_modules())
    assert all(module.training for module in model.train().all_modules())
    assert not model.train(False)[1].training
    with pytest.raises(ArgumentError, match="mode is 'eval', but True for training or False for evaluation is"):
        model.train("eval")  # type: ignore[arg-type]  # on purpose


def test_buffers_are_saved_and_restored_by_name() -> None:
    first, second = (nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)) for _ in range(2))
    first(torch.randn(3, 1, 4, 4))
    assert list(first.buffers()) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert list(first.parameters()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    second.load_state_dict(first.state_dict())
    for name, buffer in second.buffers().items():
        assert torch.equal(buffer, first.buffers()[name]), name
    with pytest.raises(StateDictError, match=r"state\['1.running_mean'\] .* but the buffer is torch.float32 of shape"):
        second.load_state_dict({**first.state_dict(), "1.running_mean": torch.zeros(3)})


def test_buffers_move_and_counts_stay_integers() -> None:
    layer = nn.BatchNorm2d(2).to(dtype=torch.float64)
    assert {name: buffer.dtype for name, buffer in layer.buffers().items()} == {
        "running_mean": torch.float64,
        "running_var": torch.float64,
        "num_batches_tracked": torch.int64,
    }
    assert all(buffer.device.type == "meta" for buffer in layer.to("meta").buffers().values())


def test_a_layer_without_parameters_takes_the_dtype_of_its_buffers() -> None:
    with pytest.raises(DtypeError, match="has dtype torch.float64, but torch.float32 is expected"):
        nn.BatchNorm2d(1, affine=False)(torch.ones(2, 1, 2, 2, dtype=torch.float64))


@pytest.mark.parametrize("make", [lambda: nn.GroupNorm(2, 4), lambda: nn.LayerNorm((4,)), lambda: nn.BatchNorm2d(4)])
def test_without_a_weight_there_can_still_be_a_bias(make: Callable[[], nn.GroupNorm | nn.LayerNorm]) -> None:
    whole, shifting = make(), make()
    shifting.weight = None
    x = torch.randn((2, 4, 3, 4), generator=torch.Generator().manual_seed(0))
    found, expected = (nn.backward(layer(x), x) for layer in (shifting, whole))  # whose weight is one
    torch.testing.assert_close(found, expected)
    assert whole.bias is not None and shifting.bias is not None and shifting.bias.grad is not None
    torch.testing.assert_close(shifting.bias.grad, whole.bias.grad)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.BatchNorm2d(0), ArgumentError, "num_features is 0, but a positive integer is expected"),
        (lambda: nn.BatchNorm2d(2, eps=-1), ArgumentError, "eps is -1, but a finite number of at least 0 is expected"),
        (lambda: nn.BatchNorm2d(2, momentum=1.5), ArgumentError, "momentum is 1.5, but a number from 0 to 1"),
        (lambda: nn.BatchNorm2d(2, dtype=torch.int64), DtypeError, "dtype is torch.int64, but parameters need"),
        (lambda: nn.GroupNorm(2, 3), ArgumentError, "num_groups is 2, but num_channels = 3 is not divisible by it"),
        (lambda: nn.LayerNorm(()), ArgumentError, r"normalized_shape is \(\), but at least one axis is expected"),
        (lambda: nn.LayerNorm((2, 0)), ArgumentError, "normalized_shape is 0, but a positive integer is expected"),
        (
            lambda: nn.BatchNorm2d(2)(torch.ones(1, 3, 4, 4)),
            ShapeError,
            r"has shape \(1, 3, 4, 4\) with 3 channels, but 2 are expected",
        ),
        (lambda: nn.BatchNorm2d(2)(torch.ones(2, 2)), ShapeError, r"but 4 are expected: \(N, C, H, W\)"),
        (lambda: nn.BatchNorm2d(2)(torch.ones(1, 2, 1, 1)), ShapeError, "need more than one value for each channel"),
        (
            lambda: nn.GroupNorm(2, 4)(torch.ones(1, 3, 2)),
            ShapeError,
            r"has shape \(1, 3, 2\), but \(N, 4, ...\) is expected",
        ),
        (lambda: nn.GroupNorm(2, 2)(torch.ones(1, 2)), ShapeError, "but a group needs more than one value"),
        (
            lambda: nn.LayerNorm((2, 3))(torch.ones(4, 3)),
            ShapeError,
            r"has shape \(4, 3\), but its last axes must be \(2, 3\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_options_are_shown() -> None:
    assert repr(nn.BatchNorm2d(2)) == "BatchNorm2d(2)"
    assert repr(nn.BatchNorm2d(2, momentum=None, affine=False)) == "BatchNorm2d(2, momentum=None, affine=False)"
    assert repr(nn.GroupNorm(1, 2, eps=0.1)) == "GroupNorm(1, 2, eps=0.1)"
    assert repr(nn.LayerNorm(3, bias=False)) == "LayerNorm(3, bias=False)"
    assert repr(nn.LayerNorm((2, 3), elementwise_affine=False)) == "LayerNorm((2, 3), elementwise_affine=False)"
