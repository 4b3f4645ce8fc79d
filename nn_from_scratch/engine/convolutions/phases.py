"""The adjoint of a convolution in its input, as a convolution with stride 1 of the kernel's phases.

Axes: N batch, G groups, C channels in, C' channels out, s and t stride, I1 and I2 rows and columns of a phase.

Along one axis, with u the position in the padded input, the adjoint is x^[u] = sum of g[p] w[k] over s p + d k = u.
With u = s m + a only the entries k = s i + a of the kernel contribute (for d = 1), its phase a:

    x^[s m + a] = sum_i g[m - i] w[s i + a]

For each phase this is a convolution of g with stride 1; the phases are s t times as many output channels, and a pixel
shuffle puts them side by side. Every output is written once: no scattered addition is left.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from nn_from_scratch.engine.convolutions.geometry import Geometry, Pair, spatial
from nn_from_scratch.engine.layout import copy_in_order

Convolve = Callable[[Tensor, Tensor, Geometry, Tensor | None], Tensor]


def _write_out(w: Tensor, geometry: Geometry) -> tuple[Tensor, Pair]:
    """The kernel with the zeros of its dilation along an axis that has a stride too, and the dilation that is left.

    There the entries of a phase would each have their own offset, which no single convolution has.
    """
    dilation = geometry.dilation
    if dilation == (1, 1):
        return w, dilation
    for axis in (0, 1):
        d = dilation[axis]
        if d > 1 and geometry.stride[axis] > 1:
            shape = list(w.shape)
            shape[2 + axis] = geometry.extent[axis]
            spread = w.new_zeros(shape)
            spread[(..., slice(None, None, d), slice(None))[: 3 - axis]] = w
            w, dilation = spread, (1, dilation[1]) if axis == 0 else (dilation[0], 1)
    return w, dilation


class _Plan(NamedTuple):
    """What is the same for all calls with tensors of the same shapes."""

    missing: Pair  # rows and columns of zeros that make the kernel a multiple of the stride
    phases: tuple[int, ...]  # (G s t C/G, C'/G, I1, I2), the first rounded up to a multiple of the block
    strides: tuple[int, ...]  # of the phases, which lie in memory as (G s t C/G, I1, I2, C'/G)
    padding: tuple[int, int, int, int] | None  # of the cotangent, as `pad` takes it, where the convolution has none
    flat: Geometry  # of the convolution with stride 1
    offset: Pair  # where among the rows and columns of the shuffled pixels the result begins


@lru_cache(maxsize=256)
def _plan(
    geometry: Geometry, dilation: Pair, kernel: tuple[int, ...], positions: Pair, size: Pair, block: int
) -> _Plan:
    """The plan for a kernel of this shape (C', C/G, K1, K2), a cotangent (H', W') and a result (H, W)."""
    G, (s, t), inner = geometry.groups, geometry.stride, kernel[0] // geometry.groups
    parts = (-(-kernel[2] // s), -(-kernel[3] // t))  # (I1, I2)
    # m runs from the phase row of the first input row to that of the last one; g is zero outside its H' rows.
    first = [p // step for p, step in zip(geometry.padding, (s, t), strict=True)]
    last = [(p + n - 1) // step for p, n, step in zip(geometry.padding, size, (s, t), strict=True)]
    before = [d * (i - 1) - m for d, i, m in zip(dilation, parts, first, strict=True)]
    after = [m - n + 1 for m, n in zip(last, positions, strict=True)]
    padding = None
    if before != after or min(before) < 0:
        padding = (before[1], after[1], before[0], after[0])
        before = [0, 0]
    channels = G * s * t * kernel[1]
    if G == 1 and (s, t) != (1, 1):
        channels = -(-channels // block) * block
    return _Plan(
        missing=(parts[0] * s - kernel[2], parts[1] * t - kernel[3]),
        phases=(channels, inner, *parts),
        strides=(parts[0] * parts[1] * inner, 1, parts[1] * inner, inner),
        padding=padding,
        flat=Geometry(kernel=parts, padding=(before[0], before[1]), dilation=dilation, groups=G),
        offset=(geometry.padding[0] - first[0] * s, geometry.padding[1] - first[1] * t),
    )


@lru_cache(maxsize=64)
def _phase_order(shape: tuple[int, ...], groups: int, stride: Pair, size: int, device: torch.device) -> Tensor:
    """Where in a kernel of this shape, (C', C/G, I1 s, I2 t), the entries (G s t C/G, I1, I2, C'/G) of its phases are.

    Kept, because it depends on the shape alone, and one gather is faster than the copies that it stands for. Beyond the
    entries that there are, up to this size, is the first one again.
    """
    per_group, (s, t) = shape[1], stride
    places = torch.arange(torch.Size(shape).numel(), device=device)
    places = places.view(groups, -1, per_group, shape[2] // s, s, shape[3] // t, t).flip(3, 5)
    order = places.permute(0, 4, 6, 2, 3, 5, 1).flatten()
    return torch.cat([order, order.new_zeros(size - len(order))])


def adjoint_by_phases(
    convolve: Convolve,
    g: Tensor,
    w: Tensor,
    geometry: Geometry,
    size: Pair,
    bias: Tensor | None,
    block: int = 1,
    parts: int = 1,
) -> Tensor:
    """The adjoint in x plus a bias: from g (N, C', H', W') and w (C', C/G, K1, K2) to (N, C, *size).

    Args:
        convolve: a convolution (x, w, geometry, bias), which is asked for stride 1 only.
        g, w: cotangent and kernel.
        geometry: of the convolution whose adjoint this is.
        size: (H, W).
        bias: (C,), or None.
        block: the number of channels of which a convolution for several phases is asked for a multiple; those that are
            added are not looked at.
        parts: of the batch, of which the phases are computed one after the other: each needs memory beside the result.
    """
    N, G, per_group, (s, t) = g.shape[0], geometry.groups, w.shape[1], geometry.stride
    w, dilation = _write_out(w, geometry)
    plan = _plan(geometry, dilation, w.shape, spatial(g), size, block)
    if plan.missing != (0, 0):
        w = pad(w, (0, plan.missing[1], 0, plan.missing[0]))
    if plan.padding is not None:
        g = pad(g, plan.padding)
    if bias is not None and (s, t) != (1, 1):
        times = -(-plan.phases[0] // len(bias))  # s t, or more where channels are rounded up
        bias = torch.cat([bias.view(G, per_group)] * times, dim=1).flatten()[: plan.phases[0]]
    order = _phase_order(w.shape, G, (s, t), torch.Size(plan.phases).numel(), w.device)
    phases = w.reshape(-1).index_select(0, order).as_strided(plan.phases, plan.strides)  # (G s t C/G, C'/G, I1, I2)
    if (s, t) == (1, 1):  # one phase, which begins with the first row and column and has the size asked for
        return convolve(g, phases, plan.flat, bias)
    (M1, M2), (top, left), C = plan.flat.output_size(spatial(g)), plan.offset, G * per_group
    pixels: Tensor | None = None
    for part in _parts(N, parts):
        y = convolve(g if parts == 1 else g[part], phases, plan.flat, bias)
        if pixels is None:
            pixels = g.new_empty(N, M1 * s, M2 * t, C)  # only now: its memory may have served until here
        _shuffle(y, (s, t), G, per_group, out=pixels[part])
    assert pixels is not None  # an empty batch is one part too
    row, column = M2 * t * C, C
    return pixels.as_strided((N, C, *size), (M1 * s * row, 1, row, column), top * row + left * column)


def _parts(N: int, parts: int) -> list[slice]:
    step = max(1, -(-N // parts))
    return [slice(first, first + step) for first in range(0, max(1, N), step)]


def _shuffle(y: Tensor, stride: Pair, groups: int, per_group: int, *, out: Tensor) -> None:
    """Put the phases y (N, G s t C/G or more, M1, M2) side by side: to (N, M1 s, M2 t, C)."""
    (N, _, M1, M2), (sample, channel, row, column), (s, t) = y.shape, y.stride(), stride
    step = per_group * channel
    if groups == 1 and channel == 1:
        strides = (sample, row, t * step, column, step, channel)
        copy_in_order(y, (N, M1, s, M2, t, per_group), strides, out=out)
    else:
        view = y.as_strided(
            (N, M1, s, M2, t, groups, per_group), (sample, row, t * step, column, step, s * t * step, channel)
        )
        out.view(view.shape).copy_(view)
