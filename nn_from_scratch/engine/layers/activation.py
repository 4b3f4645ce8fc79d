"""Elementwise activations: input and output have the same shape, any shape."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import real
from nn_from_scratch.engine.graph import Record, Saving
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.errors import ArgumentError


class ReLU(Layer):
    """y = max(x, 0);   dl/dx = g where x > 0, else 0 (at x = 0 the derivative is taken to be 0)."""

    needs_inputs = False
    complex_inputs = False

    def forward(self, x: Tensor) -> Saving:
        y = x.relu()
        return Saving(y, (y,))  # positive where x is, and needed by what comes next anyway

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        # Not g * (y > 0): an infinite cotangent times a false comparison would be nan. And not g.where(y > 0, 0), which
        # is this in three passes instead of one.
        gradient: Tensor = torch.ops.aten.threshold_backward(g, record.saved[0], 0)
        return gradient


class LeakyReLU(Layer):
    """y = x where x > 0, else a x;   dl/dx = g where x > 0, else a g (at x = 0 the derivative is taken to be a).

    Args:
        negative_slope: a.

    Raises:
        ArgumentError: the slope is not a finite number.
    """

    complex_inputs = False

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = real(negative_slope, name="negative_slope")

    def forward(self, x: Tensor) -> Tensor:
        return x.where(x > 0, self.negative_slope * x)

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        return g.where(record.x > 0, self.negative_slope * g)

    def __repr__(self) -> str:
        return self.describe(negative_slope=(self.negative_slope, 0.01))


class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x));   dl/dx = y (1 - y) g."""

    needs_inputs = False

    def forward(self, x: Tensor) -> Saving:
        y = x.sigmoid()
        return Saving(y, (y,))

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        (y,) = record.saved
        return (1 - y).mul_(y).mul_(g)


class Tanh(Layer):
    """y = tanh(x);   dl/dx = (1 - y^2) g."""

    needs_inputs = False

    def forward(self, x: Tensor) -> Saving:
        y = x.tanh()
        return Saving(y, (y,))

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        (y,) = record.saved
        return (1 - y.square()).mul_(g)


class SiLU(Layer):
    """y = x s with s = 1 / (1 + exp(-x));   dl/dx = s (1 + x (1 - s)) g."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        x = record.x
        s = x.sigmoid()
        return s * (1 + x * (1 - s)) * g


class GELU(Layer):
    """The Gaussian error linear unit (Hendrycks and Gimpel, 2016), exact or approximated by tanh.

    Exact: y = x P(x);   dl/dx = (P(x) + x p(x)) g, with P and p the standard normal's distribution and density.

    "tanh": y = x (1 + t) / 2 with t = tanh(u), u = c (x + a x^3), c = sqrt(2 / pi), a = 0.044715;
    dl/dx = ((1 + t) + x (1 - t^2) u') / 2 g with u' = c (1 + 3 a x^2).

    Args:
        approximate: "none" for the exact form, or "tanh".

    Raises:
        ArgumentError: `approximate` is neither.
    """

    complex_inputs = False
    _a = 0.044715
    _c = math.sqrt(2 / math.pi)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ArgumentError(f"approximate is {approximate!r}, but 'none' or 'tanh' is expected")
        self.approximate = approximate

    def _t(self, x: Tensor) -> Tensor:
        return (self._c * (x + self._a * x * x * x)).tanh()

    def forward(self, x: Tensor) -> Tensor:
        if self.approximate == "tanh":
            return x * (1 + self._t(x)) / 2
        P: Tensor = torch.special.ndtr(x)
        return x * P

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        x = record.x
        if self.approximate == "tanh":
            t = self._t(x)
            du = self._c * (1 + 3 * self._a * x * x)
            return ((1 + t) + x * (1 - t * t) * du) / 2 * g
        P: Tensor = torch.special.ndtr(x)
        p = (-x.square() / 2).exp() / math.sqrt(2 * math.pi)
        return (P + x * p) * g

    def __repr__(self) -> str:
        return self.describe(approximate=(self.approximate, "none"))
