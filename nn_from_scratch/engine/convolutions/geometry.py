"""The geometry of a convolution: sizes, and which of them are possible.

Axes: N batch, C channels in, C' channels out, H and W height and width, K1 and K2 kernel height and width, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nn_from_scratch.errors import GeometryError

Pair = tuple[int, int]


def pair(value: int | Pair, *, name: str, least: int) -> Pair:
    """One number for both axes, or (height, width), as a pair.

    Raises:
        GeometryError: it is neither, or a number is below `least`.
    """
    both = (value, value) if isinstance(value, int) and not isinstance(value, bool) else value
    if (
        not isinstance(both, tuple | list)
        or len(both) != 2
        or any(not isinstance(n, int) or isinstance(n, bool) or n < least for n in both)
    ):
        raise GeometryError(f"{name} is {value!r}, but an integer of at least {least}, or a pair of them, is expected")
    return (both[0], both[1])


@dataclass(frozen=True)
class Geometry:
    """What is fixed in the bilinear map `conv2d(x, w)`: all but the tensors.

    Attributes:
        kernel: (K1, K2).
        stride, padding, dilation: each (along the height, along the width).
        groups: G, into which the channels are divided.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def extent(self) -> Pair:
        """Rows and columns that a dilated kernel spans: d (K - 1) + 1."""
        return (
            self.dilation[0] * (self.kernel[0] - 1) + 1,
            self.dilation[1] * (self.kernel[1] - 1) + 1,
        )

    def output_size(self, size: Pair) -> Pair:
        """(H', W') of a convolution of (H, W): floor((H + 2p - d(K - 1) - 1) / s) + 1.

        Raises:
            GeometryError: the dilated kernel is larger than the padded input.
        """
        padded = (size[0] + 2 * self.padding[0], size[1] + 2 * self.padding[1])
        extent = self.extent
        if padded[0] < extent[0] or padded[1] < extent[1]:
            raise GeometryError(
                f"input of size {size} with padding {self.padding} is smaller than the kernel {self.kernel} "
                f"with dilation {self.dilation}; it needs at least {extent} with its padding"
            )
        return (
            (padded[0] - extent[0]) // self.stride[0] + 1,
            (padded[1] - extent[1]) // self.stride[1] + 1,
        )

    def reach(self, positions: Pair) -> Pair:
        """Rows and columns of the padded input that so many positions (H', W') see: (H' - 1) s + d(K - 1) + 1."""
        extent = self.extent
        return (
            (positions[0] - 1) * self.stride[0] + extent[0],
            (positions[1] - 1) * self.stride[1] + extent[1],
        )

    def transposed_size(self, size: Pair, extra: Pair = (0, 0)) -> Pair:
        """A size (H, W) whose convolution has the size (H', W'): (H' - 1) s - 2p + d(K - 1) + 1 + extra.

        Args:
            size: (H', W').
            extra: rows and columns to add; less than the stride, they say which of the possible sizes is meant.

        Raises:
            GeometryError: the padding leaves nothing.
        """
        reach = self.reach(size)
        height = reach[0] - 2 * self.padding[0] + extra[0]
        width = reach[1] - 2 * self.padding[1] + extra[1]
        if size[0] < 1 or size[1] < 1 or height < 1 or width < 1:
            raise GeometryError(
                f"input of size {size} would give an output of size {(height, width)} with kernel {self.kernel}, "
                f"stride {self.stride}, padding {self.padding}; use a larger input or less padding"
            )
        return (height, width)


def spatial(x: Tensor) -> Pair:
    """(H, W) of a tensor (N, C, H, W)."""
    return (x.shape[2], x.shape[3])
