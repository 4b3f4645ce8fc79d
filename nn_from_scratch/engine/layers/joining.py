"""Layers that join several branches of a graph."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import axis, integer
from nn_from_scratch.engine.graph import Record
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.errors import ShapeError


class Add(Layer):
    """y = x1 + x2 + ...;   dl/dx_k = g for each of them.

    Called with one input or more, all of one shape, which is the output's too.

    Raises:
        ShapeError, DtypeError, DeviceError: on a call, the inputs do not fit together.
    """

    needs_inputs = False

    def check_inputs(self, *xs: Tensor) -> None:
        super().check_inputs(*xs)
        for place, x in enumerate(xs):
            if x.shape != xs[0].shape:
                raise ShapeError(
                    f"input {place} of {self.short_name()} has shape {tuple(x.shape)}, but input 0 has shape "
                    f"{tuple(xs[0].shape)}"
                )

    def forward(self, *xs: Tensor) -> Tensor:
        y = xs[0].clone()
        for x in xs[1:]:
            y += x
        return y

    def input_vjp(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        return (g,) * len(record.inputs)


class Concat(Layer):
    """y = the inputs one behind the other along an axis;   dl/dx_k = the part of g where x_k went.

    Called with one input or more, of equal shapes but for that axis; the output's is the sum of theirs.

    Args:
        dim: the axis, by default the channels; negative numbers count from the end.

    Raises:
        ArgumentError: `dim` is not an integer.
        ShapeError, DtypeError, DeviceError: on a call, the inputs do not fit together.
    """

    needs_inputs = False

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = integer(dim, name="dim")

    def check_inputs(self, *xs: Tensor) -> None:
        super().check_inputs(*xs)
        dim = axis(self.dim, xs[0], self)
        for place, x in enumerate(xs):
            others = [(*shape[:dim], *shape[dim + 1 :]) for shape in (x.shape, xs[0].shape)]
            if x.dim() != xs[0].dim() or others[0] != others[1]:
                raise ShapeError(
                    f"input {place} of {self.short_name()} has shape {tuple(x.shape)}, which differs from that of "
                    f"input 0, {tuple(xs[0].shape)}, in another axis than {dim}"
                )

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, dim=self.dim)

    def input_vjp(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        return torch.split(g, [x.shape[self.dim] for x in record.inputs], dim=self.dim)

    def __repr__(self) -> str:
        return self.describe(dim=(self.dim, 1))
