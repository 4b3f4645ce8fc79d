"""Columns of an image, and the products with them that make a convolution and its adjoint in the kernel.

Axes: N batch, G groups, C channels in, C' channels out, H and W height and width, P and Q output positions, K1 and K2
kernel height and width, K = K1 K2 C/G entries of the kernel that one output sees, R = N P Q rows.

Images lie with the channels last. A row of the columns then consists of a few contiguous runs of the image (one for
each row of the kernel), and all positions of all samples are the rows of one matrix, so that a whole batch is one
product. The batch is taken in parts whose columns stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nn_from_scratch.convolutions.geometry import Geometry, Pair, spatial
from nn_from_scratch.convolutions.workspace import workspace

#: Bytes of columns in one part. Above the cache of a core the columns go to memory and back, and freshly mapped
#: pages cost more than the product; far below it, the Python work for a part is felt.
PART_BYTES = 1 << 20


def _image(x: Tensor, padding: Pair = (0, 0)) -> Tensor:
    """The tensor x (N, C, H, W) as (N, H + 2 padding, W + 2 padding, C), contiguous; no copy if it lies so already."""
    image = x.permute(0, 2, 3, 1)  # (N, H, W, C)
    a, b = padding
    if not (a or b):
        return image.contiguous()
    N, H, W, C = image.shape
    padded = workspace("image", (N, H + 2 * a, W + 2 * b, C), x).zero_()
    padded[:, a : a + H, b : b + W].copy_(image)
    return padded


def _columns(image: Tensor, geometry: Geometry, positions: Pair) -> Tensor:
    """The columns (G, R, K), K ordered as (K1, K2, C/G), of a padded image (N, H, W, C) that is contiguous."""
    n, _, _, C = image.shape
    G, per_group = geometry.groups, C // geometry.groups
    if G == 1 and geometry.kernel == geometry.stride == (1, 1):
        return image.view(1, -1, C)  # the pixels are the columns, nothing is copied
    sample, row, column, channel = image.stride()
    (s, t), (d, e) = geometry.stride, geometry.dilation
    windows = image.as_strided(
        (G, n, *positions, *geometry.kernel, per_group),
        (per_group * channel, sample, s * row, t * column, d * row, e * column, channel),
    )
    rows, entries = n * positions[0] * positions[1], geometry.kernel[0] * geometry.kernel[1] * per_group
    columns = workspace("columns", tuple(windows.shape), image)
    return columns.copy_(windows).view(G, rows, entries)


def _parts(x: Tensor, geometry: Geometry, positions: Pair) -> Iterator[slice]:
    size = x.shape[1] * geometry.kernel[0] * geometry.kernel[1] * positions[0] * positions[1] * x.element_size()
    count = -(-len(x) * size // PART_BYTES) if x.device.type == "cpu" else 1  # elsewhere a launch costs more
    step = max(1, -(-len(x) // max(1, count)))
    return (slice(first, first + step) for first in range(0, len(x), step))


def convolve(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None) -> Tensor:
    """s[r, j] = sum_m x~[r, m] w~[j, m] + b[j]: from x (N, C, H, W), w (C', C/G, K1, K2) to (N, C', P, Q)."""
    G = geometry.groups
    positions = geometry.output_size(spatial(x))
    kernels = w.reshape(G, -1, *w.shape[1:]).permute(0, 3, 4, 2, 1).flatten(1, 3)  # (G, K, C'/G)
    s = x.new_empty(len(x), *positions, len(w))  # (N, P, Q, C')
    for part in _parts(x, geometry, positions):
        columns = _columns(_image(x[part], geometry.padding), geometry, positions)  # (G, R, K)
        rows = s[part].view(-1, len(w))  # (R, C')
        if G > 1:
            rows.view(len(rows), G, -1).copy_(torch.bmm(columns, kernels).transpose(0, 1))
        elif bias is not None:
            torch.addmm(bias, columns[0], kernels[0], out=rows)
        else:
            torch.mm(columns[0], kernels[0], out=rows)
    if G > 1 and bias is not None:
        s += bias
    return s.permute(0, 3, 1, 2)  # (N, C', P, Q)


def correlate(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """dl/dw~[j, m] = sum_r g[r, j] x~[r, m]: from x (N, C, H, W), g (N, C', P, Q) to (C', C/G, K1, K2)."""
    G, per_group, out = geometry.groups, x.shape[1] // geometry.groups, g.shape[1] // geometry.groups
    K = geometry.kernel[0] * geometry.kernel[1] * per_group
    w = x.new_empty(G, out, K) if len(x) else x.new_zeros(G, out, K)  # (G, C'/G, K)
    for part in _parts(x, geometry, spatial(g)):
        columns = _columns(_image(x[part], geometry.padding), geometry, spatial(g))  # (G, R, K)
        rows = _image(g[part]).view(-1, G, out).permute(1, 2, 0)  # (G, C'/G, R)
        torch.baddbmm(w, rows, columns, beta=min(part.start, 1), out=w)  # what w held is ignored at first
    kernels = w.view(G * out, *geometry.kernel, per_group)  # (C', K1, K2, C/G)
    return kernels.permute(0, 3, 1, 2).contiguous()
