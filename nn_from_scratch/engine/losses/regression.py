"""Losses of the difference between prediction and target."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import number
from nn_from_scratch.engine.graph import Record, Saving
from nn_from_scratch.engine.losses.base import Loss
from nn_from_scratch.errors import ArgumentError


class _Difference(Loss):
    """A loss that depends on the error e = y^ - y of each entry alone: l = f(e)."""

    needs_inputs = False
    factor = 1.0  # of the gradient, which the cotangent takes along

    def of_error(self, e: Tensor) -> Tensor:
        """f(e)."""
        raise TypeError(f"{type(self).__name__} defines no of_error; write one that returns f(e), entry by entry")

    def error_vjp(self, e: Tensor, g: Tensor) -> Tensor:
        """f'(e) g / factor, for a cotangent that is a scalar or has the shape of e."""
        raise TypeError(f"{type(self).__name__} defines no error_vjp; write one that returns the gradient in e")

    def value(self, e: Tensor) -> Tensor:
        """The loss of the errors: f(e), reduced."""
        return self.reduced(self.of_error(e))

    def forward(self, prediction: Tensor, target: Tensor) -> Saving:
        e = prediction - target
        return Saving(self.value(e), (e,))

    def input_vjp(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        (e,) = record.saved
        gradient = self.error_vjp(e, self.spread(g, e.numel(), self.factor))
        return gradient, -gradient if record.needs[1] else None


class MSE(_Difference):
    """l = e^2 with e = y^ - y, and its mean;   dl/dy^ = 2 e g / n for n entries, dl/dy its negative.

    Called with prediction y^ and target y of one shape, any shape; the output has shape (), or theirs where nothing
    is reduced (then, and for the sum, without n). As in the report the error e of every pair is remembered, so
    several forward passes and one `backward()` add up their gradients.

    Args:
        reduction: "mean", "sum" or "none".

    Raises:
        ArgumentError: the reduction is unknown.
        ShapeError, DtypeError, DeviceError: on a call, prediction and target do not fit together.
    """

    factor = 2.0

    def of_error(self, e: Tensor) -> Tensor:
        return e.square()

    def error_vjp(self, e: Tensor, g: Tensor) -> Tensor:
        return e * g


class L1(_Difference):
    """l = |e| with e = y^ - y, and its mean;   dl/dy^ = sign(e) g / n for n entries, dl/dy its negative.

    Called with prediction y^ and target y of one shape, any shape; the output has shape (), or theirs where nothing
    is reduced (then, and for the sum, without n). At e = 0 the derivative is taken to be 0.

    Args:
        reduction: "mean", "sum" or "none".

    Raises:
        ArgumentError: the reduction is unknown.
        ShapeError, DtypeError, DeviceError: on a call, prediction and target do not fit together.
    """

    complex_inputs = False

    def of_error(self, e: Tensor) -> Tensor:
        return e.abs()

    def error_vjp(self, e: Tensor, g: Tensor) -> Tensor:
        return e.sign() * g


class Huber(_Difference):
    """l = e^2 / 2 where |e| <= d, else d (|e| - d / 2), with e = y^ - y, and its mean (Huber, 1964).

    dl/dy^ = (e, limited to [-d, d]) g / n for n entries, dl/dy its negative.

    Called with prediction y^ and target y of one shape, any shape; the output has shape (), or theirs where nothing
    is reduced (then, and for the sum, without n).

    Args:
        delta: d, positive.
        reduction: "mean", "sum" or "none".

    Raises:
        ArgumentError: an argument makes no sense.
        ShapeError, DtypeError, DeviceError: on a call, prediction and target do not fit together.
    """

    complex_inputs = False

    def __init__(self, *, delta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        if not number(delta) or delta <= 0:
            raise ArgumentError(f"delta is {delta!r}, but a finite positive number is expected")
        self.delta = float(delta)

    def of_error(self, e: Tensor) -> Tensor:
        d, size = self.delta, e.abs()
        return torch.where(size <= d, e.square() / 2, d * (size - d / 2))

    def error_vjp(self, e: Tensor, g: Tensor) -> Tensor:
        return e.clamp(-self.delta, self.delta) * g

    def __repr__(self) -> str:
        return self.describe(delta=(self.delta, 1.0), reduction=(self.reduction, "mean"))
