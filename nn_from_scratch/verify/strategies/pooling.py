"""Geometries of poolings, all of them valid.

Axes: N batch, C channels, H and W height and width.
"""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st

from nn_from_scratch.verify.strategies.axes import Bounds, Snippet, bounds, draw_axes, draw_axis, possible
from nn_from_scratch.verify.strategies.convolutional import (
    BATCH,
    CHANNELS,
    DILATION,
    KERNEL,
    PADDING,
    SIZE,
    STRIDE,
    axis_ranges,
    remainder,
)
from nn_from_scratch.verify.strategies.geometry import Pooling, windows

__all__ = ["poolings"]


def _fits(*, kernel: int, dilation: int, stride: int, padding: int, size: int, ceil_mode: bool) -> bool:
    extent = dilation * (kernel - 1) + 1
    count = windows(size, extent, stride, padding, ceil_mode=ceil_mode)
    if 2 * padding > kernel or count < 1:
        return False
    if padding == 0 or size >= dilation:
        return True
    # The entries of a window are further apart than the input is long, and may all lie beside it.
    return all(any(0 <= i * stride - padding + k * dilation < size for k in range(kernel)) for i in range(count))


def _floor_fits(*, kernel: int, dilation: int, stride: int, padding: int, size: int) -> bool:
    return _fits(kernel=kernel, dilation=dilation, stride=stride, padding=padding, size=size, ceil_mode=False)


def _ceil_fits(*, kernel: int, dilation: int, stride: int, padding: int, size: int) -> bool:
    return _fits(kernel=kernel, dilation=dilation, stride=stride, padding=padding, size=size, ceil_mode=True)


@st.composite
def _poolings(
    draw: st.DrawFn,
    batch: range,
    channels: range,
    axis: dict[str, range],
    modes: tuple[bool, ...],
    square: bool,
    show: bool,
) -> Pooling:
    ceil_mode = draw(st.sampled_from(modes))
    fits = _ceil_fits if ceil_mode else _floor_fits
    pairs = draw_axes(partial(draw_axis, draw, axis, fits, whole=axis, remainder=remainder), square=square)
    drawn = Pooling(
        batch=draw(st.integers(batch[0], batch[-1])),
        channels=draw(st.integers(channels[0], channels[-1])),
        ceil_mode=ceil_mode,
        **pairs,
    )
    Snippet(drawn.snippet).noted(show=show)
    return drawn


def poolings(
    *,
    batch: Bounds = BATCH,
    channels: Bounds = CHANNELS,
    size: Bounds = SIZE,
    kernel: Bounds = KERNEL,
    stride: Bounds = STRIDE,
    padding: Bounds = PADDING,
    dilation: Bounds = DILATION,
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
    axis = axis_ranges(kernel, dilation, stride, padding, size)
    wanted = (False, True) if ceil_mode is None else (ceil_mode,)
    for mode in wanted:
        possible(axis, _ceil_fits if mode else _floor_fits, axis)
    return _poolings(
        bounds(batch, name="batch", least=0),
        bounds(channels, name="channels", least=1),
        axis,
        wanted,
        square,
        show,
    )
