"""The affine map.

Axes: I inputs, O outputs, any number of axes before them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.graph import Record
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.engine.parameters import positive, switch, uniform
from nn_from_scratch.errors import ShapeError


class Linear(Layer):
    """y = x W^T + b;   dl/dx = g W;   dl/dW = g^T x;   dl/db = sum of g over all axes but the last.

    Input (..., I), output (..., O). Parameters: weight (O, I) and bias (O,), from U(-sqrt k, sqrt k), k = 1 / I.

    Args:
        in_features: I.
        out_features: O.
        bias: whether b is there.
        generator: source of the initial values; torch's global one by default.
        device, dtype: of the parameters; torch's defaults by default.

    Raises:
        ArgumentError, DtypeError: an argument makes no sense.
        ShapeError, DtypeError, DeviceError: on a call, the input does not fit.
    """

    parameter_names = ("weight", "bias")
    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features = positive(in_features, name="in_features")
        self.out_features = positive(out_features, name="out_features")
        self.weight = uniform(
            out_features, in_features, fan=in_features, generator=generator, device=device, dtype=dtype
        )
        self.bias: Tensor | None = None
        if switch(bias, name="bias"):
            self.bias = uniform(out_features, fan=in_features, generator=generator, device=device, dtype=dtype)

    def check_inputs(self, x: Tensor) -> None:
        super().check_inputs(x)
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ShapeError(
                f"input of {self.short_name()} has shape {tuple(x.shape)}, but its last axis must have "
                f"{self.in_features} entries"
            )

    def forward(self, x: Tensor) -> Tensor:
        s = x @ self.weight.T
        return s if self.bias is None else s + self.bias

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        return g @ self.weight

    def parameter_vjps(self, g: Tensor, record: Record) -> dict[str, Tensor]:
        rows = g.reshape(-1, self.out_features)  # (rows, O)
        gradients = {"weight": rows.T @ record.x.reshape(-1, self.in_features)}  # (O, I)
        if self.bias is not None:
            gradients["bias"] = rows.sum(dim=0)
        return gradients

    def __repr__(self) -> str:
        return self.describe(self.in_features, self.out_features, bias=(self.bias is not None, True))
