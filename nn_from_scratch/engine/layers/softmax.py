"""Softmax and its logarithm: input and output have the same shape, any shape with at least one axis."""

from __future__ import annotations

from torch import Tensor

from nn_from_scratch.engine.arguments import axis, integer
from nn_from_scratch.engine.graph import Record, Saving
from nn_from_scratch.engine.layer import Layer


class _AlongAxis(Layer):
    """The base of both: the axis, and the shift that keeps the exponentials finite."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = integer(dim, name="dim")

    def check_inputs(self, x: Tensor) -> None:
        super().check_inputs(x)
        axis(self.dim, x, self)

    def _shifted(self, x: Tensor) -> Tensor:
        """X minus its maximum along the axis; neither function changes by it."""
        if x.numel() == 0:
            return x
        return x - x.real.amax(dim=self.dim, keepdim=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dim={self.dim})"


class Softmax(_AlongAxis):
    """y = exp(x) / sum of exp(x);   dl/dx = y (g - sum of g y), both sums along one axis.

    Args:
        dim: the axis; negative numbers count from the end.

    Raises:
        ArgumentError: `dim` is not an integer.
        ShapeError: on a call, the input has no such axis.
    """

    needs_inputs = False

    def forward(self, x: Tensor) -> Saving:
        e = self._shifted(x).exp()
        y = e / e.sum(dim=self.dim, keepdim=True)
        return Saving(y, (y,))

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        (y,) = record.saved
        return y * (g - (g * y).sum(dim=self.dim, keepdim=True))


class LogSoftmax(_AlongAxis):
    """y = x - log of the sum of exp(x);   dl/dx = g - exp(y) (sum of g), both sums along one axis.

    Args:
        dim: the axis; negative numbers count from the end.

    Raises:
        ArgumentError: `dim` is not an integer.
        ShapeError: on a call, the input has no such axis.
    """

    needs_inputs = False

    def forward(self, x: Tensor) -> Saving:
        z = self._shifted(x)
        y = z - z.exp().sum(dim=self.dim, keepdim=True).log()
        return Saving(y, (y,))

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        (y,) = record.saved
        return g - y.exp() * g.sum(dim=self.dim, keepdim=True)
