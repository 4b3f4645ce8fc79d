"""Geometries of convolutions, transposed convolutions and poolings, all of them valid.

Axes: N batch, C channels in, C' channels out, H and W height and width, G groups.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from hypothesis import strategies as st

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.strategies import constants
from nn_from_scratch.verify.strategies.axes import Axis, Bounds, bounds, note_code, pick
from nn_from_scratch.verify.strategies.geometries import (
    Convolution,
    Pooling,
    SpatialGeometry,
    TransposedConvolution,
    windows,
)

G = TypeVar("G", bound=SpatialGeometry)
Numbers = Callable[[st.DrawFn], dict[str, Any]]
"""Draws the numbers of a geometry that its two axes do not share."""


def _fits(*, kernel: int, dilation: int, stride: int, padding: int, size: int) -> bool:
    return dilation * (kernel - 1) + 1 <= size + 2 * padding


def _remainder(*, kernel: int, dilation: int, stride: int, padding: int, size: int) -> int:
    """What is left at the end of an axis."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) % stride


def _transposed_fits(*, kernel: int, dilation: int, stride: int, padding: int, output_padding: int, size: int) -> bool:
    reached = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding
    return output_padding < max(stride, dilation) and reached >= 1


def _pooling_fits(*, kernel: int, dilation: int, stride: int, padding: int, size: int, ceil_mode: bool) -> bool:
    extent = dilation * (kernel - 1) + 1
    count = windows(size, extent, stride, padding, ceil_mode=ceil_mode)
    if 2 * padding > kernel or count < 1:
        return False
    if padding == 0 or size >= dilation:
        return True
    # The entries of a window are further apart than the input is long, and may all lie beside it.
    return all(any(0 <= i * stride - padding + k * dilation < size for k in range(kernel)) for i in range(count))


def _axis_ranges(kernel: Bounds, dilation: Bounds, stride: Bounds, padding: Bounds, size: Bounds) -> dict[str, range]:
    """The numbers of one axis, in the order in which they are drawn."""
    return {
        "kernel": bounds(kernel, name="kernel", least=1),
        "dilation": bounds(dilation, name="dilation", least=1, off=1),
        "stride": bounds(stride, name="stride", least=1, off=1),
        "padding": bounds(padding, name="padding", least=0, off=0),
        "size": bounds(size, name="size", least=1),
    }


def _multiples(allowed: range, of: int) -> range:
    return range(-(-allowed[0] // of), allowed[-1] // of + 1)


def _channels(batch: Bounds, groups: Bounds, into: Bounds, out: Bounds) -> Numbers:
    """N, G and its multiples C and C'; an error where no G divides a C and a C'."""
    N = bounds(batch, name="batch", least=0)
    allowed = bounds(groups, name="groups", least=1, off=1)
    C = bounds(into, name="in_channels", least=1)
    C_out = bounds(out, name="out_channels", least=1)
    possible = [G for G in allowed if _multiples(C, G) and _multiples(C_out, G)]
    if not possible:
        raise ArgumentError(
            f"groups is {groups!r}, but none of them divides a number of channels in {into!r} and one in {out!r}; "
            "allow a multiple of it"
        )

    def drawn(draw: st.DrawFn) -> dict[str, Any]:
        G = pick(draw, possible)
        return {
            "batch": draw(st.integers(N[0], N[-1])),
            "in_channels": G * pick(draw, _multiples(C, G)),
            "out_channels": G * pick(draw, _multiples(C_out, G)),
            "groups": G,
        }

    return drawn


@st.composite
def _geometries(draw: st.DrawFn, kind: type[G], numbers: Numbers, axis: Axis, square: bool, show: bool) -> G:
    along: dict[str, Any] = axis.drawn(draw, square=square)
    geometry = kind(**along, **numbers(draw))
    note_code(geometry.snippet, show=show)
    return geometry


def convolutions(
    *,
    batch: Bounds = constants.BATCH,
    in_channels: Bounds = constants.CHANNELS,
    out_channels: Bounds = constants.CHANNELS,
    groups: Bounds = constants.GROUPS,
    size: Bounds = constants.SIZE,
    kernel: Bounds = constants.KERNEL,
    stride: Bounds = constants.STRIDE,
    padding: Bounds = constants.PADDING,
    dilation: Bounds = constants.DILATION,
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
    channels = _channels(batch, groups, in_channels, out_channels)
    axis = Axis(_axis_ranges(kernel, dilation, stride, padding, size), _fits, remainder=_remainder)
    return _geometries(Convolution, channels, axis, square, show)


def transposed_convolutions(
    *,
    batch: Bounds = constants.BATCH,
    in_channels: Bounds = constants.CHANNELS,
    out_channels: Bounds = constants.CHANNELS,
    groups: Bounds = constants.GROUPS,
    size: Bounds = constants.SIZE,
    kernel: Bounds = constants.KERNEL,
    stride: Bounds = constants.STRIDE,
    padding: Bounds = constants.PADDING,
    dilation: Bounds = constants.DILATION,
    output_padding: Bounds = constants.OUTPUT_PADDING,
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
    channels = _channels(batch, groups, in_channels, out_channels)
    ranges = _axis_ranges(kernel, dilation, stride, padding, size)
    last = ranges.pop("size")
    ranges |= {"output_padding": bounds(output_padding, name="output_padding", least=0, off=0), "size": last}
    axis = Axis(ranges, _transposed_fits, whole=("output_padding",))
    return _geometries(TransposedConvolution, channels, axis, square, show)


def poolings(
    *,
    batch: Bounds = constants.BATCH,
    channels: Bounds = constants.CHANNELS,
    size: Bounds = constants.SIZE,
    kernel: Bounds = constants.KERNEL,
    stride: Bounds = constants.STRIDE,
    padding: Bounds = constants.PADDING,
    dilation: Bounds = constants.DILATION,
    ceil_mode: bool | None = None,
    square: bool = False,
    show: bool = True,
) -> st.SearchStrategy[Pooling]:
    """Valid two-dimensional poolings, each axis on its own, with a remainder (H + 2p - extent) mod s often.

    Every bound is a number, or a pair (least, most) of them. The padding is at most half of the kernel, and every
    window holds an entry of the input. In `ceil_mode` the window may be larger than the input. They shrink to one
    sample, one channel, windows, sizes and strides of one, and no padding.

    Args:
        batch: N; with 0, an empty batch too.
        channels: C.
        size: H and W.
        kernel, stride, padding: Of each axis; False for stride or padding where the kernel has none.
        dilation: Of each axis; False where the kernel has none, such as a mean.
        ceil_mode: True or False for that alone; None for both.
        square: Whether the numbers are the same along both axes.
        show: Whether a failing example prints `Pooling.snippet`.

    Raises:
        ArgumentError: An argument makes no sense, or nothing fits the bounds.
    """
    N, C = bounds(batch, name="batch", least=0), bounds(channels, name="channels", least=1)
    ranges = _axis_ranges(kernel, dilation, stride, padding, size)

    def of(mode: bool) -> st.SearchStrategy[Pooling]:
        def numbers(draw: st.DrawFn) -> dict[str, Any]:
            sizes = {"batch": draw(st.integers(N[0], N[-1])), "channels": draw(st.integers(C[0], C[-1]))}
            return {**sizes, "ceil_mode": mode}

        axis = Axis(ranges, partial(_pooling_fits, ceil_mode=mode), whole=ranges, remainder=_remainder)
        return _geometries(Pooling, numbers, axis, square, show)

    return st.one_of(*(of(mode) for mode in ((False, True) if ceil_mode is None else (ceil_mode,))))
