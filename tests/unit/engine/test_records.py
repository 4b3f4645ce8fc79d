"""The traversal of the records: what it asks for, what it propagates, what it returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.engine.graph import Owner, Record, creator_of, propagate
from nn_from_scratch.errors import DtypeError
from tests.functions import draw


class Sum(nn.Layer):
    """x1 + x2, which counts how often it is asked for a gradient."""

    asked = 0

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return x1 + x2

    def input_vjp(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        self.asked += 1
        return g.clone(), g.clone()


class First(Sum):
    """x1; nothing is propagated to the second input."""

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return x1.clone()

    def input_vjp(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        return g.clone(), None


class SumOfOneTensor(Sum):
    """The same new tensor as the gradient of both inputs."""

    def input_vjp(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        both = g.clone()
        return both, both


def start_of(y: Tensor, cotangent: Tensor) -> tuple[Owner, Record, Tensor]:
    origin = creator_of(y)
    assert origin is not None
    return origin[0], origin[0].record_at(origin[1]), cotangent


def test_a_gradient_that_nobody_wants_is_not_computed() -> None:
    join, loss = Sum(), nn.MSE()
    loss(join(torch.ones(2, 3), torch.ones(2, 3)), torch.zeros(2, 3))
    loss.backward()
    assert join.asked == 0


def test_below_an_input_without_a_gradient_the_traversal_goes_on_without_one() -> None:
    shared, other, join, first = nn.Linear(3, 3), nn.Linear(3, 3), Sum(), First()
    x = torch.ones(2, 3)
    h = shared(x)
    y = first(h, join(h, other(x)))
    nn.backward(y, torch.ones_like(y))
    assert other.weight.grad is None and join.asked == 0
    # What the branch without a gradient leaves of `shared` is the gradient that came along the other one.
    torch.testing.assert_close(shared.weight.grad, torch.full((3, 3), 2.0))


def test_gradients_of_two_inputs_never_share_memory() -> None:
    join = SumOfOneTensor()
    gradients = nn.backward(join(torch.ones(3), torch.ones(3)))
    assert isinstance(gradients, tuple) and gradients[0] is not None and gradients[1] is not None
    gradients[0].zero_()
    assert torch.equal(gradients[1], torch.ones(3))


def test_only_wanted_tensors_have_gradients() -> None:
    join, wanted, other = Sum(), torch.ones(3), torch.ones(3)
    y = join(wanted, other)
    assert set(propagate([start_of(y, torch.ones(3))], wanted=[wanted])) == {id(wanted)}


def test_an_output_that_is_started_from_twice_and_used_as_well_propagates_everything() -> None:
    x = draw(2, 3)
    h = nn.Tanh()(x)
    y = nn.Sigmoid()(h)
    z = nn.Sigmoid()(y)
    one = torch.ones_like(x)
    found = propagate([start_of(y, one), start_of(y, 2 * one), start_of(z, one)], wanted=[x])
    torch.testing.assert_close(found[id(x)], (3 + z * (1 - z)) * y * (1 - y) * (1 - h * h))


@pytest.mark.parametrize("cotangent", [np.ones(3), 1.0, None])
def test_a_cotangent_that_is_no_tensor_is_refused(cotangent: Any) -> None:
    layer = nn.ReLU()
    layer(torch.ones(3))
    with pytest.raises(DtypeError, match="gradwrtoutput is a .*, but a torch.Tensor is expected"):
        layer.backward(cotangent)


def test_a_complex_output_has_no_backward() -> None:
    layer = nn.Tanh()
    y = layer(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(DtypeError, match="defined for real outputs, not for dtype torch.complex64"):
        layer.backward(torch.ones_like(y))
