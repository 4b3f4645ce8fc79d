"""Geometries of convolutions and poolings as data: sizes in exact integers, operands, and code that shows a case.

Axes: N batch, C channels in, C' channels out, H and W height and width, K1 and K2 kernel height and width, G groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Convolution",
    "Geometry",
    "Pair",
    "Pooling",
    "Shape",
    "TransposedConvolution",
    "draw_operands",
    "operand_code",
    "windows",
]

Pair = tuple[int, int]
Shape = tuple[int, ...]


class Geometry(ABC):
    """What the three kinds of geometry share: shapes, operands, and code that shows a case."""

    @property
    @abstractmethod
    def x_shape(self) -> Shape:
        """Of the input."""

    @property
    @abstractmethod
    def output_shape(self) -> Shape:
        """Of the output."""

    @abstractmethod
    def operand_shapes(self, x_shape: Shape) -> dict[str, Shape]:
        """The shapes of the operands by name, for an input of this one."""

    @abstractmethod
    def code(self, operands: Sequence[str]) -> str:
        """The call of torch on operands of these names."""

    def operands(self, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """The tensors that `snippet` builds under the same seed, normally distributed.

        Args:
            seed: Determines the entries.
            dtype: A floating-point or complex one.

        Returns:
            x and w for a convolution, x alone for a pooling.
        """
        return draw_operands(self.operand_shapes(self.x_shape), seed, dtype)

    def snippet(self, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> str:
        """Python that runs on its own: the operands, and what torch makes of them.

        Args:
            seed: Determines the entries, as in `operands`.
            dtype: A floating-point or complex one.
        """
        shapes = self.operand_shapes(self.x_shape)
        lines = operand_code(shapes, seed, dtype)
        return "\n".join([*lines, f"y = {self.code([*shapes])}", f"assert y.shape == {self.output_shape}"])


def draw_operands(shapes: dict[str, Shape], seed: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Normally distributed tensors of these shapes, one after the other from one seed."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes.values())


def operand_code(shapes: dict[str, Shape], seed: int, dtype: torch.dtype) -> list[str]:
    """The lines of code that build what `draw_operands` gives."""
    made = (f"{name} = torch.randn({shape}, generator=generator, dtype={dtype})" for name, shape in shapes.items())
    return [
        "import torch",
        "import torch.nn.functional as F",
        "",
        f"generator = torch.Generator().manual_seed({seed})",
        *made,
    ]


@dataclass(frozen=True, kw_only=True)
class _Convolutional(Geometry):
    """What a convolution and a transposed one share; they describe it."""

    batch: int = 1
    in_channels: int = 1
    out_channels: int = 1
    groups: int = 1
    size: Pair = (1, 1)
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @property
    def x_shape(self) -> Shape:
        """(N, C, H, W)."""
        return (self.batch, self.in_channels, *self.size)

    @property
    @abstractmethod
    def w_shape(self) -> Shape:
        """Of the kernel."""

    @property
    def extent(self) -> Pair:
        """Rows and columns that the dilated kernel spans: d (K - 1) + 1."""
        return _extent(self.kernel, self.dilation)

    @property
    @abstractmethod
    def output_size(self) -> Pair:
        """(H', W')."""

    @property
    def output_shape(self) -> Shape:
        """(N, C', H', W')."""
        return (self.batch, self.out_channels, *self.output_size)

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments that the function of torch and the layers share."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def operand_shapes(self, x_shape: Shape) -> dict[str, Shape]:
        """The shapes of x and w by name."""
        return {"x": x_shape, "w": self.w_shape}


@dataclass(frozen=True, kw_only=True)
class Convolution(_Convolutional):
    """A two-dimensional convolution: all but the entries of its tensors.

    Attributes:
        batch: N.
        in_channels, out_channels: C and C'.
        groups: G, into which both are divided.
        size: (H, W).
        kernel: (K1, K2).
        stride, padding, dilation: Each (along the height, along the width).
    """

    @property
    def w_shape(self) -> Shape:
        """(C', C/G, K1, K2)."""
        return (self.out_channels, self.in_channels // max(self.groups, 1), *self.kernel)  # G = 0 is a fault to show

    @property
    def remainders(self) -> Pair:
        """Rows and columns at the end of the padded input that no position reaches: (H + 2p - extent) mod s."""
        return _remainders(self)

    @property
    def output_size(self) -> Pair:
        """(H', W') with H' = floor((H + 2p - extent) / s) + 1, W' alike."""
        (H, W), (p, q), (s, t), extent = self.size, self.padding, self.stride, self.extent
        return (H + 2 * p - extent[0]) // s + 1, (W + 2 * q - extent[1]) // t + 1

    @property
    def transposed(self) -> TransposedConvolution:
        """The adjoint in x: it takes (N, C', H', W') to (N, C, H, W) with a kernel of the same shape."""
        return TransposedConvolution(
            batch=self.batch,
            in_channels=self.out_channels,
            out_channels=self.in_channels,
            groups=self.groups,
            size=self.output_size,
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            output_padding=self.remainders,
        )

    def code(self, operands: Sequence[str]) -> str:
        """The call of torch on operands of these names."""
        return _call("F.conv2d", operands, self.options)


@dataclass(frozen=True, kw_only=True)
class TransposedConvolution(_Convolutional):
    """A two-dimensional transposed convolution: all but the entries of its tensors.

    Attributes:
        batch: N.
        in_channels, out_channels: C and C'.
        groups: G, into which both are divided.
        size: (H, W), of the input.
        kernel: (K1, K2).
        stride, padding, dilation: Each (along the height, along the width), of the convolution that it is adjoint to.
        output_padding: Rows and columns more, fewer than the stride or the dilation.
    """

    output_padding: Pair = (0, 0)

    @property
    def w_shape(self) -> Shape:
        """(C, C'/G, K1, K2)."""
        return (self.in_channels, self.out_channels // max(self.groups, 1), *self.kernel)  # G = 0 is a fault to show

    @property
    def output_size(self) -> Pair:
        """(H', W') with H' = (H - 1) s - 2p + extent + output_padding, W' alike."""
        (H, W), (p, q), (s, t), extent = self.size, self.padding, self.stride, self.extent
        a, b = self.output_padding
        return (H - 1) * s - 2 * p + extent[0] + a, (W - 1) * t - 2 * q + extent[1] + b

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments that the function of torch and the layers share."""
        return {**super().options, "output_padding": self.output_padding}

    def code(self, operands: Sequence[str]) -> str:
        """The call of torch on operands of these names."""
        return _call("F.conv_transpose2d", operands, self.options)


@dataclass(frozen=True, kw_only=True)
class Pooling(Geometry):
    """A two-dimensional pooling: all but the entries of its input.

    Attributes:
        batch: N.
        channels: C.
        size: (H, W).
        kernel: (K1, K2).
        stride, padding, dilation: Each (along the height, along the width); a mean has no dilation.
        ceil_mode: Whether a last window may reach over the end.
    """

    batch: int = 1
    channels: int = 1
    size: Pair = (1, 1)
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False

    @property
    def x_shape(self) -> Shape:
        """(N, C, H, W)."""
        return (self.batch, self.channels, *self.size)

    @property
    def extent(self) -> Pair:
        """Rows and columns that a window spans: d (K - 1) + 1."""
        return _extent(self.kernel, self.dilation)

    @property
    def remainders(self) -> Pair:
        """(H + 2p - extent) mod s: what is left at the end, which `ceil_mode` gives a window of its own."""
        return _remainders(self)

    @property
    def output_size(self) -> Pair:
        """(H', W') with H' = floor((H + 2p - extent) / s) + 1, W' alike.

        In `ceil_mode` it is rounded up, but for a last window that would start in the padding at the end.
        """
        along = zip(self.size, self.extent, self.stride, self.padding, strict=True)
        found = [windows(n, extent, s, p, ceil_mode=self.ceil_mode) for n, extent, s, p in along]
        return found[0], found[1]

    @property
    def output_shape(self) -> Shape:
        """(N, C, H', W')."""
        return (self.batch, self.channels, *self.output_size)

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of `torch.nn.functional.max_pool2d`, beside the kernel."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "ceil_mode": self.ceil_mode}

    def operand_shapes(self, x_shape: Shape) -> dict[str, Shape]:
        """The shape of x by name."""
        return {"x": x_shape}

    def code(self, operands: Sequence[str]) -> str:
        """The call of torch on an operand of this name."""
        return _call("F.max_pool2d", [*operands, repr(self.kernel)], self.options)


def _extent(kernel: Pair, dilation: Pair) -> Pair:
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1


def _remainders(geometry: Convolution | Pooling) -> Pair:
    (H, W), (p, q), (s, t), extent = geometry.size, geometry.padding, geometry.stride, geometry.extent
    return (H + 2 * p - extent[0]) % s, (W + 2 * q - extent[1]) % t


def windows(n: int, extent: int, s: int, p: int, *, ceil_mode: bool) -> int:
    """How many windows of a pooling there are along an axis of n entries; below 1 if it is too short."""
    count = (n + 2 * p - extent + (s - 1 if ceil_mode else 0)) // s + 1
    return count - 1 if ceil_mode and (count - 1) * s >= n + p else count


def _call(function: str, operands: Sequence[str], options: dict[str, Any]) -> str:
    return f"{function}({', '.join([*operands, *(f'{name}={value}' for name, value in options.items())])})"
