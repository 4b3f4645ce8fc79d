"""Training in bfloat16 and float16: forward and backward are computed there, the parameters are kept in float32.

The scheme is that of Micikevicius et al., Mixed Precision Training, 2018: a low copy of the model makes the gradients,
and the update is made in float32, where steps much smaller than a weight are not lost. float16 has so few exponents
that small gradients vanish; the loss is therefore scaled up, and the gradients down again.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.engine.graph import Record, release_records
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.engine.losses import Loss
from nn_from_scratch.engine.module import Module, Sequential
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.errors import ArgumentError

#: The first scale; halved after an overflow, and doubled after so many steps in a row without one.
FIRST_SCALE, PATIENCE = 2.0**16, 2000


class _Cast(Layer):
    """y = x in another dtype;   dl/dx = g in that of x. Input and output have the same shape, any shape."""

    needs_inputs = False

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        return g.to(record.x.dtype)


class LossScale:
    """The factor that keeps small gradients from vanishing: as large as goes without an overflow.

    Args:
        scale: the factor to begin with, positive.
        good: steps in a row without an overflow so far.

    Raises:
        ArgumentError: the scale is not positive.
    """

    def __init__(self, scale: float = FIRST_SCALE, good: int = 0) -> None:
        if not scale > 0:
            raise ArgumentError(f"scale is {scale}, but a positive number is expected")
        self.scale = scale
        self.good = good

    def update(self, *, overflowed: bool) -> None:
        """Take note of a step."""
        self.good = 0 if overflowed else self.good + 1
        if overflowed:
            self.scale /= 2
        elif self.good == PATIENCE:
            self.scale, self.good = self.scale * 2, 0


class LowPrecisionStep:
    """Forward and backward in a low dtype, loss and update in float32, in one call.

    In float16 the loss is scaled, and a step whose gradients overflow is left out. Buffers are computed in the low
    dtype. Steps are not captured: whether one is left out depends on its values.

    Args:
        model: whose parameters, in float32, are updated.
        criterion: called with prediction and target in float32; its value has shape ().
        optimizer: of the model.
        dtype: torch.bfloat16 or torch.float16.
        scale: of the loss; a new one by default in float16, and none in bfloat16.

    Raises:
        ArgumentError: the dtype is neither, or the model is not in float32.
    """

    def __init__(
        self,
        model: Module,
        criterion: Loss,
        optimizer: Optimizer,
        *,
        dtype: torch.dtype,
        scale: LossScale | None = None,
    ) -> None:
        if dtype not in (torch.bfloat16, torch.float16):
            raise ArgumentError(f"dtype is {dtype}, but torch.bfloat16 or torch.float16 is expected")
        for name, parameter in model.parameters().items():
            if parameter.dtype != torch.float32:
                raise ArgumentError(f"parameter {name!r} is in {parameter.dtype}, but torch.float32 is expected")
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.dtype = dtype
        self.scale = scale if scale is not None or dtype == torch.bfloat16 else LossScale()
        inside = copy.deepcopy(model).to(dtype=dtype)
        self._low = Sequential(inside, _Cast(torch.float32))
        self._pairs: list[Any] = [
            (model.parameters(), inside.parameters()),
            (model.buffers(), inside.buffers()),
        ]

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """Make one step, with input and target as for the model itself; the loss before the update, shape ()."""
        with torch.no_grad():
            for kept, low in self._pairs:
                for name, tensor in kept.items():
                    low[name].copy_(tensor)
        factor = 1.0 if self.scale is None else self.scale.scale
        with release_records():
            loss = self.criterion(self._low(x.to(self.dtype)), target)
            self.criterion.backward(torch.full_like(loss, factor))
        (parameters, low_parameters), (buffers, low_buffers) = self._pairs
        self.optimizer.zero_grad()
        with torch.no_grad():
            for name, parameter in parameters.items():
                gradient = low_parameters[name].grad
                parameter.grad = None if gradient is None else gradient.to(torch.float32) / factor
                low_parameters[name].grad = None
            gradients = [p.grad for p in parameters.values() if p.grad is not None]
            finite = self.scale is None or all(bool(g.isfinite().all()) for g in gradients)
            if finite:
                self.optimizer.step()
                for name, tensor in buffers.items():
                    tensor.copy_(low_buffers[name])
        if self.scale is not None:
            self.scale.update(overflowed=not finite)
        self.optimizer.zero_grad()
        self._low.clear_saved_tensors()
        return loss.detach()
