"""Layers that move entries and compute nothing."""

from __future__ import annotations

from torch import Tensor

from nn_from_scratch.engine.arguments import integer
from nn_from_scratch.engine.graph import Record
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.errors import ShapeError


class Flatten(Layer):
    """Axes `start_dim` to `end_dim` become one, as in `torch.nn.Flatten`; by default all but the first.

    Input (N, A, B, ...), output (N, A B ...);   dl/dx is g in the input's shape.

    Args:
        start_dim: the first axis to join.
        end_dim: the last one; negative numbers count from the end.

    Raises:
        ShapeError: on a call, the input has no such axes.
    """

    needs_inputs = False

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = integer(start_dim, name="start_dim")
        self.end_dim = integer(end_dim, name="end_dim")

    def check_inputs(self, x: Tensor) -> None:
        super().check_inputs(x)
        first, last = (dim + x.dim() if dim < 0 else dim for dim in (self.start_dim, self.end_dim))
        if not 0 <= first <= last < x.dim():
            raise ShapeError(
                f"input of {self.short_name()} has shape {tuple(x.shape)}, which has no axes "
                f"{self.start_dim} to {self.end_dim}"
            )

    def forward(self, x: Tensor) -> Tensor:
        # A copy, as every layer makes one: writing to the output must not change the input.
        return x.flatten(self.start_dim, self.end_dim).clone()

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        return g.reshape(record.x.shape)

    def __repr__(self) -> str:
        return self.describe(start_dim=(self.start_dim, 1), end_dim=(self.end_dim, -1))
