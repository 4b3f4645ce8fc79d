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

import torch
from torch import Tensor
from torch.nn.functional import pad

from nn_from_scratch.convolutions.geometry import Geometry, Pair

Convolve = Callable[[Tensor, Tensor, Geometry, Tensor | None], Tensor]


def _write_out(w: Tensor, geometry: Geometry) -> tuple[Tensor, Pair]:
    """The kernel with the zeros of its dilation along an axis that has a stride too, and the dilation that is left.

    There the entries of a phase would each have their own offset, which no single convolution has.
    """
    dilation = geometry.dilation
    for axis in (0, 1):
        d = dilation[axis]
        if d > 1 and geometry.stride[axis] > 1:
            shape = list(w.shape)
            shape[2 + axis] = geometry.extent[axis]
            spread = w.new_zeros(shape)
            spread[(..., slice(None, None, d), slice(None))[: 3 - axis]] = w
            w, dilation = spread, (1, dilation[1]) if axis == 0 else (dilation[0], 1)
    return w, dilation


@lru_cache(maxsize=64)
def _phase_order(shape: tuple[int, ...], groups: int, stride: Pair, device: torch.device) -> Tensor:
    """Where in a kernel of this shape, (C', C/G, I1 s, I2 t), the entries (G s t C/G, I1, I2, C'/G) of its phases are.

    Kept, because it depends on the shape alone, and one gather is faster than the copies that it stands for.
    """
    per_group, (s, t) = shape[1], stride
    places = torch.arange(torch.Size(shape).numel(), device=device)
    places = places.view(groups, -1, per_group, shape[2] // s, s, shape[3] // t, t).flip(3, 5)
    return places.permute(0, 4, 6, 2, 3, 5, 1).reshape(-1, shape[2] // s, shape[3] // t, shape[0] // groups)


def adjoint_by_phases(
    convolve: Convolve, g: Tensor, w: Tensor, geometry: Geometry, size: Pair, bias: Tensor | None
) -> Tensor:
    """The adjoint in x plus a bias: from g (N, C', H', W') and w (C', C/G, K1, K2) to (N, C, *size).

    Args:
        convolve: a convolution (x, w, geometry, bias), which is asked for stride 1 only.
        g, w: cotangent and kernel.
        geometry: of the convolution whose adjoint this is.
        size: (H, W).
        bias: (C,), or None.
    """
    N, G, per_group, (s, t) = len(g), geometry.groups, w.shape[1], geometry.stride
    w, dilation = _write_out(w, geometry)
    parts = (-(-w.shape[2] // s), -(-w.shape[3] // t))  # (I1, I2)
    missing = (parts[0] * s - w.shape[2], parts[1] * t - w.shape[3])
    if any(missing):
        w = pad(w, (0, missing[1], 0, missing[0]))
    phases = w.take(_phase_order(tuple(w.shape), G, (s, t), w.device))  # (G s t C/G, I1, I2, C'/G)
    # m runs from the phase row of the first input row to that of the last one; g is zero outside its H' rows.
    first = [p // step for p, step in zip(geometry.padding, (s, t), strict=True)]
    last = [(p + n - 1) // step for p, n, step in zip(geometry.padding, size, (s, t), strict=True)]
    before = [d * (i - 1) - m for d, i, m in zip(dilation, parts, first, strict=True)]
    after = [m - n + 1 for m, n in zip(last, g.shape[2:], strict=True)]
    if before != after or min(before) < 0:
        g = pad(g, (before[1], after[1], before[0], after[0]))
        before = [0, 0]
    flat = Geometry(kernel=parts, padding=(before[0], before[1]), dilation=dilation, groups=G)
    if bias is not None:
        bias = bias.view(G, 1, per_group).expand(G, s * t, per_group).flatten()
    y = convolve(g, phases.permute(0, 3, 1, 2), flat, bias)  # (N, G s t C/G, M1, M2)
    if (s, t) != (1, 1):
        M1, M2 = y.shape[2:]
        y = y.permute(0, 2, 3, 1).reshape(N, M1, M2, G, s, t, per_group).permute(0, 1, 4, 2, 5, 3, 6)
        y = y.reshape(N, M1 * s, M2 * t, G * per_group).permute(0, 3, 1, 2)  # (N, C, M1 s, M2 t)
    top, left = geometry.padding[0] - first[0] * s, geometry.padding[1] - first[1] * t
    if (top, left) == (0, 0) and y.shape[2:] == size:
        return y
    return y[:, :, top : top + size[0], left : left + size[1]]
