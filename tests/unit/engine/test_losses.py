"""Losses: reductions, extreme values, misuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError, DeviceError, DtypeError, ShapeError


def test_mse_is_the_mean_of_the_squared_error() -> None:
    assert nn.MSE()(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])) == 2.5


def test_the_gradients_of_prediction_and_target() -> None:
    loss = nn.MSE()
    value = loss(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]))
    gradients = loss.backward(torch.tensor(10.0))
    assert value == 2.5
    assert gradients is not None
    torch.testing.assert_close(gradients, (torch.tensor([10.0, 20.0]), torch.tensor([-10.0, -20.0])))


def test_a_target_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"target of MSE\(\) has shape \(2, 1\), but the prediction has shape \(2,\)"):
        nn.MSE()(torch.ones(2), torch.ones(2, 1))
    with pytest.raises(DtypeError, match=r"input 1 of MSE\(\) has dtype torch.float64, but torch.float32 is expected"):
        nn.MSE()(torch.ones(2), torch.ones(2, dtype=torch.float64))


def test_backward_without_an_argument_is_that_of_the_sum_where_nothing_is_reduced() -> None:
    model, x, target = nn.Linear(3, 2), torch.randn(4, 3), torch.randn(4, 2)
    gradients: list[Tensor] = []
    for reduction in ("sum", "none"):
        loss = nn.MSE(reduction=reduction)
        model.weight.grad = None
        loss(model(x), target)
        loss.backward()
        assert model.weight.grad is not None
        gradients.append(model.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    "loss", [nn.MSE(), nn.L1(), nn.Huber(), nn.BCEWithLogits()], ids=lambda loss: type(loss).__name__
)
def test_a_targets_gradient_that_nobody_asks_for_is_not_computed(loss: nn.MSE | nn.BCEWithLogits) -> None:
    model = nn.Linear(3, 2)
    value = loss(model(torch.ones(4, 3)), torch.zeros(4, 2))
    loss.backward()
    (index,) = loss.xs
    record = loss.record_at(index)
    assert record.needs == (True, False)
    gradients = loss.input_vjp(torch.ones_like(value), record)
    assert isinstance(gradients[0], Tensor) and gradients[1] is None


def test_at_the_kinks_the_derivative_is_torchs() -> None:
    e = torch.tensor([0.0, 1.0, -1.0, 2.0, -2.0])
    for loss, reference in ((nn.L1(reduction="sum"), F.l1_loss), (nn.Huber(reduction="sum"), F.huber_loss)):
        leaf = e.clone().requires_grad_()
        reference(leaf, torch.zeros(5), reduction="sum").backward()
        found = loss.backward(torch.ones_like(loss(e, torch.zeros(5))))
        assert found is None or torch.equal(found[0], leaf.grad)  # type: ignore[arg-type]  # set by backward


def test_bce_of_extreme_logits_is_finite_and_torchs() -> None:
    x = torch.tensor([1e4, -1e4, 100.0, -100.0, 0.0], dtype=torch.float64)
    y = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.3], dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    expected = F.binary_cross_entropy_with_logits(leaf, y, reduction="none")
    expected.sum().backward()
    loss = nn.BCEWithLogits(reduction="none")
    value = loss(x, y)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-13, atol=1e-40)
    gradients = nn.backward(value)
    assert isinstance(gradients, tuple)
    torch.testing.assert_close(gradients[0], leaf.grad, rtol=1e-13, atol=1e-30)


def test_a_class_with_probability_zero_that_is_not_asked_for_costs_nothing() -> None:
    x, t = torch.tensor([[0.0, -torch.inf, 1.0]]), torch.tensor([2])
    leaf = x.clone().requires_grad_()
    expected = F.cross_entropy(leaf, t)
    expected.backward()
    value = nn.CrossEntropy()(x, t)
    torch.testing.assert_close(value, expected.detach())
    gradients = nn.backward(value)
    assert isinstance(gradients, tuple)
    torch.testing.assert_close(gradients[0], leaf.grad)
    assert gradients[1] is None


def test_where_every_entry_is_ignored_the_mean_is_nan_as_in_torch() -> None:
    value = nn.CrossEntropy()(torch.randn(2, 3), torch.tensor([-100, -100]))
    assert bool(value.isnan())


def test_weights_are_buffers() -> None:
    loss = nn.CrossEntropy(weight=torch.ones(3))
    assert list(loss.state_dict()) == ["weight"] and not loss.parameters()
    assert loss.to(dtype=torch.float64).state_dict()["weight"].dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.MSE(reduction="max"), ArgumentError, "reduction is 'max', but 'mean', 'sum' or 'none' is expected"),
        (lambda: nn.Huber(delta=0), ArgumentError, "delta is 0, but a finite positive number is expected"),
        (lambda: nn.CrossEntropy(ignore_index=0.5), ArgumentError, "ignore_index is 0.5, but an integer"),  # type: ignore[arg-type]  # on purpose
        (lambda: nn.CrossEntropy(label_smoothing=2), ArgumentError, "label_smoothing is 2, but a number from 0 to 1"),
        (lambda: nn.CrossEntropy(weight=[1.0]), DtypeError, "weight is a list, but a floating-point tensor"),  # type: ignore[arg-type]  # on purpose
        (
            lambda: nn.BCEWithLogits(pos_weight=torch.ones(2, dtype=torch.int64)),
            DtypeError,
            "pos_weight is a tensor of torch.int64, but a floating-point tensor is expected",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("x", "t", "error", "message"),
    [
        (torch.ones(2, 3), torch.ones(2), DtypeError, "has dtype torch.float32, but classes are int64"),
        (torch.ones(2, 3), torch.ones(3).long(), ShapeError, r"has shape \(3,\), but \(2,\) is expected"),
        (torch.ones(2, 3), torch.tensor([0, 3]), ArgumentError, "has the class 3, but 0 to 2 are expected"),
        (torch.ones(2, 3), torch.tensor([-1, 0]), ArgumentError, "has the class -1, but 0 to 2 are expected"),
        (torch.ones(()), torch.tensor(0), ShapeError, r"has shape \(\), which has no classes"),
        (torch.ones(2, 3), torch.ones(2, device="meta").long(), DeviceError, "lies on meta, but the prediction on cpu"),
    ],
)
def test_classes_that_do_not_fit_are_refused(x: Tensor, t: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nn.CrossEntropy()(x, t)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"weight of CrossEntropy.* has shape \(2,\), but there are 3 classes"):
        nn.CrossEntropy(weight=torch.ones(2))(torch.ones(1, 3), torch.tensor([0]))
    with pytest.raises(ShapeError, match=r"pos_weight of BCE.* has shape \(2,\), which does not broadcast to"):
        nn.BCEWithLogits(pos_weight=torch.ones(2))(torch.ones(1, 3), torch.ones(1, 3))


def test_options_are_shown() -> None:
    assert repr(nn.Huber(delta=2, reduction="sum")) == "Huber(delta=2.0, reduction='sum')"
    assert repr(nn.L1()) == "L1()"
    assert "weight='tensor of shape (3,)'" in repr(nn.CrossEntropy(weight=torch.ones(3)))


@pytest.mark.parametrize("channels", [3, 9])
def test_a_loss_of_two_images_in_different_layouts_is_that_of_two_alike(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 2, channels, 5, 4, generator=generator)
    turned = prediction.contiguous(memory_format=torch.channels_last)
    before, loss = target.clone(), nn.MSE()
    torch.testing.assert_close(loss(turned[:, :, 1:], target[:, :, 1:]), loss(prediction[:, :, 1:], target[:, :, 1:]))
    torch.testing.assert_close(loss(turned, target), loss(prediction, target))
    one, other = (loss.backward_at(index, torch.tensor(1.0)) for index in (2, 3))
    assert isinstance(one, tuple) and isinstance(other, tuple)
    for mine, reference in zip(one, other, strict=True):
        assert mine is not None and reference is not None and torch.equal(mine, reference)
    assert torch.equal(target, before)
