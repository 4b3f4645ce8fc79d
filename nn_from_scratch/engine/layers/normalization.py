"""Normalization over groups of channels or over the last axes, and what batch normalization shares with them.

All of them normalize over a set A of axes: z = (x - m) r with the mean m and r = (v + eps)^-1/2, v the biased
variance, and then scale and shift, y = w z + b. With h = w g the derivative through mean and variance is
dl/dx = r (h - mean of h - z mean of (h z)), the means over A.

Axes: N batch, C channels, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import real
from nn_from_scratch.engine.graph import Record, Saving
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.engine.parameters import check_parameter, positive, switch
from nn_from_scratch.errors import ArgumentError, ShapeError

Axes = tuple[int, ...]


def moments(x: Tensor, axes: Axes) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over the axes, which keep the size 1."""
    m = x.mean(dim=axes, keepdim=True)
    d = x - m
    return m, (d * d).mean(dim=axes, keepdim=True)


def normalized_vjp(h: Tensor, z: Tensor, r: Tensor, axes: Axes) -> Tensor:
    """R (h - mean of h - z mean of (h z))."""
    return r * (h - h.mean(dim=axes, keepdim=True) - z * (h * z).mean(dim=axes, keepdim=True))


class _Normalization(Layer):
    """The base of all normalizations: eps, and weight and bias that start as ones and zeros."""

    needs_inputs = False

    parameter_names = ("weight", "bias")
    weight: Tensor | None = None
    bias: Tensor | None = None

    def __init__(
        self,
        shape: Sequence[int],
        *,
        eps: float,
        weight: bool,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.eps = real(eps, name="eps", least=0)
        check_parameter(shape, device=device, dtype=dtype)
        if switch(weight, name="affine"):
            self.weight = torch.ones(*shape, device=device, dtype=dtype)
        if switch(bias, name="bias"):
            self.bias = torch.zeros(*shape, device=device, dtype=dtype)

    def affine(self, z: Tensor, trailing: int) -> Tensor:
        """W z + b, with this number of axes of size 1 appended to w and b."""
        y = z if self.weight is None else z * self._spread(self.weight, trailing)
        return y if self.bias is None else y + self._spread(self.bias, trailing)

    def scaled(self, g: Tensor, trailing: int) -> Tensor:
        """H = w g."""
        return g if self.weight is None else g * self._spread(self.weight, trailing)

    @staticmethod
    def _spread(tensor: Tensor, trailing: int) -> Tensor:
        return tensor.reshape(*tensor.shape, *(1,) * trailing)

    def affine_vjps(self, g: Tensor, z: Tensor, axes: Axes) -> dict[str, Tensor]:
        """dl/dw = sum of g z and dl/db = sum of g, over the axes that w and b do not have."""
        gradients = {}
        if self.weight is not None:
            gradients["weight"] = (g * z).sum(dim=axes) if axes else g * z
        if self.bias is not None:
            gradients["bias"] = g.sum(dim=axes) if axes else g
        return gradients


class GroupNorm(_Normalization):
    """The channels in G groups, each sample's group normalized over its channels and pixels (Wu and He, 2018).

    z and dl/dx as above with A = (C / G, ...);   dl/dw = sum of g z, dl/db = sum of g over all axes but C.

    Input and output (N, C, ...). Parameters weight and bias (C,), at first ones and zeros.

    Args:
        num_groups: G, which divides C.
        num_channels: C.
        eps: added to the variance.
        affine: whether w and b are there.
        device, dtype: of the parameters; torch's defaults by default.

    Raises:
        ArgumentError, DtypeError: an argument makes no sense.
        ShapeError, DtypeError, DeviceError: on a call, the input does not fit.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.num_groups = positive(num_groups, name="num_groups")
        self.num_channels = positive(num_channels, name="num_channels")
        if num_channels % num_groups:
            raise ArgumentError(f"num_groups is {num_groups}, but num_channels = {num_channels} is not divisible by it")
        super().__init__((num_channels,), eps=eps, weight=affine, bias=affine, device=device, dtype=dtype)

    def check_inputs(self, x: Tensor) -> None:
        super().check_inputs(x)
        if x.dim() < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(
                f"input of {self.short_name()} has shape {tuple(x.shape)}, but (N, {self.num_channels}, ...) is "
                "expected"
            )
        if x.numel() == self.num_groups and x.shape[0] == 1:
            raise ShapeError(
                f"input of {self.short_name()} has shape {tuple(x.shape)}, but a group needs more than one value"
            )

    def _grouped(self, tensor: Tensor) -> Tensor:
        N, G = tensor.shape[0], self.num_groups
        return tensor.reshape(N, G, prod(tensor.shape[1:]) // G)  # (N, G, entries)

    def forward(self, x: Tensor) -> Saving:
        groups = self._grouped(x)
        m, v = moments(groups, (2,))
        r = (v + self.eps).rsqrt()  # (N, G, 1)
        z = ((groups - m) * r).reshape(x.shape)
        return Saving(self.affine(z, x.dim() - 2), (z, r))

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        z, r = record.saved
        h = self.scaled(g, g.dim() - 2)
        return normalized_vjp(self._grouped(h), self._grouped(z), r, (2,)).reshape(g.shape)

    def parameter_vjps(self, g: Tensor, record: Record) -> dict[str, Tensor]:
        return self.affine_vjps(g, record.saved[0], (0, *range(2, g.dim())))

    def __repr__(self) -> str:
        return self.describe(
            self.num_groups, self.num_channels, eps=(self.eps, 1e-5), affine=(self.weight is not None, True)
        )


class LayerNorm(_Normalization):
    """Normalized over the last axes, which have the shape S (Ba, Kiros and Hinton, 2016).

    z and dl/dx as above with A = the axes of S;   dl/dw = sum of g z, dl/db = sum of g over all axes before them.

    Input and output (..., S). Parameters weight and bias (S), at first ones and zeros.

    Args:
        normalized_shape: S, or the size of its only axis.
        eps: added to the variance.
        elementwise_affine: whether w and b are there.
        bias: whether b is there.
        device, dtype: of the parameters; torch's defaults by default.

    Raises:
        ArgumentError, DtypeError: an argument makes no sense.
        ShapeError, DtypeError, DeviceError: on a call, the input does not fit.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        *,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        S = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        if not S:
            raise ArgumentError(f"normalized_shape is {normalized_shape!r}, but at least one axis is expected")
        self.normalized_shape = tuple(positive(n, name="normalized_shape") for n in S)
        super().__init__(
            S,
            eps=eps,
            weight=switch(elementwise_affine, name="elementwise_affine"),
            bias=switch(bias, name="bias") and elementwise_affine,
            device=device,
            dtype=dtype,
        )

    @property
    def _axes(self) -> Axes:
        return tuple(range(-len(self.normalized_shape), 0))

    def check_inputs(self, x: Tensor) -> None:
        super().check_inputs(x)
        if tuple(x.shape[-len(self.normalized_shape) :]) != self.normalized_shape:
            raise ShapeError(
                f"input of {self.short_name()} has shape {tuple(x.shape)}, but its last axes must be "
                f"{self.normalized_shape}"
            )

    def forward(self, x: Tensor) -> Saving:
        m, v = moments(x, self._axes)
        r = (v + self.eps).rsqrt()
        z = (x - m) * r
        return Saving(self.affine(z, 0), (z, r))

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        z, r = record.saved
        return normalized_vjp(self.scaled(g, 0), z, r, self._axes)

    def parameter_vjps(self, g: Tensor, record: Record) -> dict[str, Tensor]:
        return self.affine_vjps(g, record.saved[0], tuple(range(g.dim() - len(self.normalized_shape))))

    def __repr__(self) -> str:
        shape = self.normalized_shape
        return self.describe(
            shape[0] if len(shape) == 1 else shape,
            eps=(self.eps, 1e-5),
            elementwise_affine=(self.weight is not None, True),
            bias=(self.bias is not None, self.weight is not None),
        )
