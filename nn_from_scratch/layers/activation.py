"""Elementwise activations: input and output have the same shape, any shape."""

from __future__ import annotations

from torch import Tensor

from nn_from_scratch.layer import Layer
from nn_from_scratch.module import Saving
from nn_from_scratch.records import Record


class ReLU(Layer):
    """y = max(x, 0);   dl/dx = g where x > 0, else 0 (at x = 0 the derivative is taken to be 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu()

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        # Not g * (x > 0): an infinite cotangent times a false comparison would be nan.
        return g.where(record.x > 0, 0)


class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x));   dl/dx = y (1 - y) g."""

    def forward(self, x: Tensor) -> Saving:
        y = x.sigmoid()
        return Saving(y, (y,))

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        (y,) = record.saved
        return y * (1 - y) * g
