"""Geometries of convolutions and poolings as data: sizes in exact integers, operands, and code that shows a case.

Axes: N batch, C channels in, C' channels out, H and W height and width, K1 and K2 kernel height and width, G groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

Pair = tuple[int, int]
Shape = tuple[int, ...]


class Shown(ABC):
    """A case that has operands, and code that builds them and calls torch's function."""

    @property
    @abstractmethod
    def operand_shapes(self) -> Mapping[str, Shape]:
        """The shapes of the operands by name."""

    @abstractmethod
    def call(self) -> str:
        """The code that calls torch on operands of these names."""

    def operands(self, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """The tensors that `snippet` builds under the same seed, normally distributed.

        Args:
            seed: Determines the entries.
            dtype: A floating-point or complex one.

        Returns:
            x and w for a convolution, x alone for a pooling.
        """
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(s, generator=generator, dtype=dtype) for s in self.operand_shapes.values())

    def snippet(self, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> str:
        """Python that runs on its own: the operands, and the call.

        Args:
            seed: Determines the entries, as in `operands`.
            dtype: A floating-point or complex one.
        """
        shapes = self.operand_shapes.items()
        return "\n".join(
            [
                "import torch",
                "import torch.nn.functional as F",
                "",
                f"generator = torch.Generator().manual_seed({seed})",
                *(f"{name} = torch.randn({shape}, generator=generator, dtype={dtype})" for name, shape in shapes),
                self.call(),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class SpatialGeometry(Shown):
    """What all geometries share; they describe it."""

    batch: int = 1
    size: Pair = (1, 1)
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    function: ClassVar[str]

    @property
    @abstractmethod
    def _channels(self) -> Pair:
        """(C, C')."""

    @property
    def x_shape(self) -> Shape:
        """(N, C, H, W)."""
        return (self.batch, self._channels[0], *self.size)

    @property
    @abstractmethod
    def output_size(self) -> Pair:
        """(H', W')."""

    @property
    def output_shape(self) -> Shape:
        """(N, C', H', W'); C' is C for a pooling."""
        return (self.batch, self._channels[1], *self.output_size)

    @property
    def operand_shapes(self) -> Mapping[str, Shape]:
        """The shapes of x and, for a convolution, w by name."""
        return {"x": self.x_shape}

    @property
    def extent(self) -> Pair:
        """Rows and columns that the dilated kernel, or a window, spans: d (K - 1) + 1."""
        return self.dilation[0] * (self.kernel[0] - 1) + 1, self.dilation[1] * (self.kernel[1] - 1) + 1

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments that torch's function and the layers share."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def result(self) -> str:
        """`y = ` the call of torch's function on the operands."""
        kernel = [repr(self.kernel)] if isinstance(self, Pooling) else []
        options = [f"{name}={value}" for name, value in self.options.items()]
        return f"y = {self.function}({', '.join([*self.operand_shapes, *kernel, *options])})"

    def call(self) -> str:
        """The call, and the shape that it gives."""
        return f"{self.result()}\nassert y.shape == {self.output_shape}"


@dataclass(frozen=True, kw_only=True)
class _Convolutional(SpatialGeometry):
    """What a convolution and a transposed one share; they describe it."""

    in_channels: int = 1
    out_channels: int = 1
    groups: int = 1

    @property
    def _channels(self) -> Pair:
        return self.in_channels, self.out_channels

    @property
    @abstractmethod
    def w_shape(self) -> Shape:
        """Of the kernel."""

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments that torch's function and the layers share."""
        return {**super().options, "groups": self.groups}

    @property
    def operand_shapes(self) -> Mapping[str, Shape]:
        """The shapes of x and w by name."""
        return {"x": self.x_shape, "w": self.w_shape}


@dataclass(frozen=True, kw_only=True)
class Convolution(_Convolutional):
    """A two-dimensional convolution: all but the entries of its tensors.

    Attributes:
        batch, in_channels, out_channels, groups: N, C, C', and G, into which both are divided.
        size, kernel: (H, W) and (K1, K2).
        stride, padding, dilation: Each (along the height, along the width).
    """

    function = "F.conv2d"

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
        return _windows(self)

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


@dataclass(frozen=True, kw_only=True)
class TransposedConvolution(_Convolutional):
    """A two-dimensional transposed convolution: all but the entries of its tensors.

    Attributes:
        batch, in_channels, out_channels, groups: N, C, C', and G, into which both are divided.
        size, kernel: (H, W) of the input, and (K1, K2).
        stride, padding, dilation: Each (along the height, along the width), of the convolution that it is adjoint to.
        output_padding: Rows and columns more, fewer than the stride or the dilation.
    """

    output_padding: Pair = (0, 0)

    function = "F.conv_transpose2d"

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
        """The keyword arguments that torch's function and the layers share."""
        return {**super().options, "output_padding": self.output_padding}


@dataclass(frozen=True, kw_only=True)
class Pooling(SpatialGeometry):
    """A two-dimensional pooling: all but the entries of its input.

    Attributes:
        batch, channels: N and C.
        size, kernel: (H, W) and (K1, K2).
        stride, padding, dilation: Each (along the height, along the width); a mean has no dilation.
        ceil_mode: Whether a last window may reach over the end.
    """

    channels: int = 1
    ceil_mode: bool = False

    function = "F.max_pool2d"

    @property
    def _channels(self) -> Pair:
        return self.channels, self.channels

    @property
    def remainders(self) -> Pair:
        """(H + 2p - extent) mod s: what is left at the end, which `ceil_mode` gives a window of its own."""
        return _remainders(self)

    @property
    def output_size(self) -> Pair:
        """(H', W') with H' = floor((H + 2p - extent) / s) + 1, W' alike.

        In `ceil_mode` it is rounded up, but for a last window that would start in the padding at the end.
        """
        return _windows(self, ceil_mode=self.ceil_mode)

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of `torch.nn.functional.max_pool2d`, beside the kernel."""
        return {**super().options, "ceil_mode": self.ceil_mode}


def windows(n: int, extent: int, s: int, p: int, *, ceil_mode: bool) -> int:
    """How many windows there are along an axis of n entries; below 1 if it is too short."""
    count = (n + 2 * p - extent + (s - 1 if ceil_mode else 0)) // s + 1
    return count - 1 if ceil_mode and (count - 1) * s >= n + p else count


def _windows(geometry: SpatialGeometry, *, ceil_mode: bool = False) -> Pair:
    along = zip(geometry.size, geometry.extent, geometry.stride, geometry.padding, strict=True)
    rows, columns = (windows(n, extent, s, p, ceil_mode=ceil_mode) for n, extent, s, p in along)
    return rows, columns


def _remainders(geometry: SpatialGeometry) -> Pair:
    (H, W), (p, q), (s, t), extent = geometry.size, geometry.padding, geometry.stride, geometry.extent
    return (H + 2 * p - extent[0]) % s, (W + 2 * q - extent[1]) % t
