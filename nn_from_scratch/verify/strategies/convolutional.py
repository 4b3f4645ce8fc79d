"""Geometries of convolutions and transposed convolutions, all of them valid.

Axes: N batch, C channels in, C' channels out, H and W height and width, G groups.
"""

from __future__ import annotations

from functools import partial
from typing import TypedDict, TypeVar

from hypothesis import strategies as st

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.strategies.axes import Bounds, Snippet, bounds, draw_axes, draw_axis, pick, possible
from nn_from_scratch.verify.strategies.geometry import Convolution, TransposedConvolution

__all__ = ["convolutions", "transposed_convolutions"]

BATCH: Bounds = (1, 3)
CHANNELS: Bounds = (1, 4)
SIZE: Bounds = (1, 9)
KERNEL: Bounds = (1, 4)
STRIDE: Bounds = (1, 3)
PADDING: Bounds = (0, 2)
DILATION: Bounds = (1, 3)

G = TypeVar("G", Convolution, TransposedConvolution)


class Channels(TypedDict):
    """The arguments of a geometry that its two axes do not share."""

    batch: int
    in_channels: int
    out_channels: int
    groups: int


def _fits(*, kernel: int, dilation: int, stride: int, padding: int, size: int) -> bool:
    return dilation * (kernel - 1) + 1 <= size + 2 * padding


def remainder(*, kernel: int, dilation: int, stride: int, padding: int, size: int) -> int:
    """What is left at the end of an axis."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) % stride


def _transposed_fits(*, kernel: int, dilation: int, stride: int, padding: int, output_padding: int, size: int) -> bool:
    reached = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding
    return output_padding < max(stride, dilation) and reached >= 1


def _multiples(allowed: range, of: int) -> range:
    return range(-(-allowed[0] // of), allowed[-1] // of + 1)


def draw_channels(draw: st.DrawFn, batch: range, groups: range, into: range, out: range) -> Channels:
    """N, G and its multiples C and C'."""
    G = pick(draw, [G for G in groups if _multiples(into, G) and _multiples(out, G)])
    return {
        "batch": draw(st.integers(batch[0], batch[-1])),
        "in_channels": G * pick(draw, _multiples(into, G)),
        "out_channels": G * pick(draw, _multiples(out, G)),
        "groups": G,
    }


def channel_ranges(batch: Bounds, groups: Bounds, into: Bounds, out: Bounds) -> tuple[range, range, range, range]:
    """The bounds of N, G, C and C'.

    Raises:
        ArgumentError: They make no sense, or no G divides a C and a C'.
    """
    ranges = (
        bounds(batch, name="batch", least=0),
        bounds(groups, name="groups", least=1, off=1),
        bounds(into, name="in_channels", least=1),
        bounds(out, name="out_channels", least=1),
    )
    if not any(_multiples(ranges[2], G) and _multiples(ranges[3], G) for G in ranges[1]):
        raise ArgumentError(
            f"groups is {groups!r}, but none of them divides a number of channels in {into!r} and one in {out!r}; "
            "allow a multiple of it"
        )
    return ranges


@st.composite
def _geometries(
    draw: st.DrawFn,
    kind: type[G],
    channels: tuple[range, range, range, range],
    axis: dict[str, range],
    square: bool,
    show: bool,
) -> G:
    if kind is TransposedConvolution:
        one = partial(draw_axis, draw, axis, _transposed_fits, whole=("output_padding",))
    else:
        one = partial(draw_axis, draw, axis, _fits, remainder=remainder)
    pairs = draw_axes(one, square=square)
    drawn = kind(**draw_channels(draw, *channels), **pairs)
    Snippet(drawn.snippet).noted(show=show)
    return drawn


def convolutions(
    *,
    batch: Bounds = BATCH,
    in_channels: Bounds = CHANNELS,
    out_channels: Bounds = CHANNELS,
    groups: Bounds = (1, 3),
    size: Bounds = SIZE,
    kernel: Bounds = KERNEL,
    stride: Bounds = STRIDE,
    padding: Bounds = PADDING,
    dilation: Bounds = DILATION,
    square: bool = False,
    show: bool = True,
) -> st.SearchStrategy[Convolution]:
    """Valid two-dimensional convolutions, each axis on its own, with a remainder (H + 2p - extent) mod s often.

    Every bound is a number, or a pair (least, most) of them. The geometries shrink to one sample, one channel,
    a kernel, a size and strides of one, no padding and no remainder.

    Args:
        batch: N; with 0, an empty batch too.
        in_channels, out_channels: C and C'; multiples of the groups are drawn.
        groups: G; False where the kernel has none.
        size: H and W.
        kernel: K1 and K2; only those that the padded input can hold are drawn.
        stride, padding, dilation: Of each axis; False where the kernel has none.
        square: Whether the numbers are the same along both axes.
        show: Whether a failing example prints `Convolution.snippet`.

    Raises:
        ArgumentError: An argument makes no sense, or nothing fits the bounds.
    """
    channels = channel_ranges(batch, groups, in_channels, out_channels)
    axis = axis_ranges(kernel, dilation, stride, padding, size)
    possible(axis, _fits)
    return _geometries(Convolution, channels, axis, square, show)


def transposed_convolutions(
    *,
    batch: Bounds = BATCH,
    in_channels: Bounds = CHANNELS,
    out_channels: Bounds = CHANNELS,
    groups: Bounds = (1, 3),
    size: Bounds = SIZE,
    kernel: Bounds = KERNEL,
    stride: Bounds = STRIDE,
    padding: Bounds = PADDING,
    dilation: Bounds = DILATION,
    output_padding: Bounds = (0, 2),
    square: bool = False,
    show: bool = True,
) -> st.SearchStrategy[TransposedConvolution]:
    """Valid two-dimensional transposed convolutions, each axis on its own.

    Args:
        batch, in_channels, out_channels, groups, kernel, stride, padding, dilation, square, show: As in
            `convolutions`.
        size: H and W of the input.
        output_padding: Of each axis; only what is less than the stride or the dilation is drawn. False where the
            kernel has none.

    Raises:
        ArgumentError: An argument makes no sense, or nothing fits the bounds.
    """
    channels = channel_ranges(batch, groups, in_channels, out_channels)
    axis = axis_ranges(kernel, dilation, stride, padding, size)
    axis = {**axis, "output_padding": bounds(output_padding, name="output_padding", least=0, off=0)}
    axis["size"] = axis.pop("size")  # drawn last
    possible(axis, _transposed_fits, ("output_padding",))
    return _geometries(TransposedConvolution, channels, axis, square, show)


def axis_ranges(kernel: Bounds, dilation: Bounds, stride: Bounds, padding: Bounds, size: Bounds) -> dict[str, range]:
    """The numbers of one axis, in the order in which they are drawn.

    Raises:
        ArgumentError: A bound makes no sense.
    """
    return {
        "kernel": bounds(kernel, name="kernel", least=1),
        "dilation": bounds(dilation, name="dilation", least=1, off=1),
        "stride": bounds(stride, name="stride", least=1, off=1),
        "padding": bounds(padding, name="padding", least=0, off=0),
        "size": bounds(size, name="size", least=1),
    }
