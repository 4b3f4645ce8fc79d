"""Softmax: large inputs, masked entries, empty axes, misuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError, ShapeError


@pytest.mark.parametrize("layer", [nn.Softmax(-1), nn.LogSoftmax(-1)], ids=repr)
def test_large_and_masked_inputs_are_as_in_torch(layer: nn.Softmax | nn.LogSoftmax) -> None:
    x = torch.tensor([[1e4, 0.0, -1e4], [1.0, -torch.inf, 3.0]], dtype=torch.float64)
    reference = torch.softmax if isinstance(layer, nn.Softmax) else torch.log_softmax
    leaf = x.clone().requires_grad_()
    expected = reference(leaf, -1)
    g = torch.randn(x.shape, dtype=torch.float64)
    expected.backward(g)
    y = layer(x)
    torch.testing.assert_close(y, expected.detach())
    torch.testing.assert_close(nn.backward(y, g), leaf.grad)


@pytest.mark.parametrize("layer", [nn.Softmax(1), nn.LogSoftmax(1)], ids=repr)
def test_an_empty_axis_gives_an_empty_output(layer: nn.Layer) -> None:
    y = layer(torch.zeros(2, 0))
    found = nn.backward(y)
    assert y.shape == (2, 0) and isinstance(found, Tensor) and found.shape == (2, 0)


def test_misuse_is_refused() -> None:
    with pytest.raises(ArgumentError, match="dim is 1.5, but an integer is expected"):
        nn.Softmax(1.5)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ShapeError, match=r"input of Softmax\(dim=2\) has shape \(3, 4\), which has no axis 2"):
        nn.Softmax(2)(torch.zeros(3, 4))
    with pytest.raises(ShapeError, match=r"input of LogSoftmax\(dim=0\) has shape \(\), which has no axis 0"):
        nn.LogSoftmax(0)(torch.zeros(()))
