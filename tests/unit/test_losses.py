"""The mean squared error."""

from __future__ import annotations

import pytest
import torch

import nn_from_scratch as nn
from nn_from_scratch.errors import DtypeError, ShapeError


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
