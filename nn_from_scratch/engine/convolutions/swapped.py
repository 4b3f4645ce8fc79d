"""The adjoint of a convolution in its kernel, as a convolution with the roles of batch and channels exchanged.

Axes: N batch, C channels in, C' channels out, H and W height and width, P and Q output positions, K1 and K2 kernel
height and width, s and t stride.

    dl/dw[j, c, k, l] = sum_{n, p, q} g[n, j, p, q] x[n, c, s p + k, t q + l]

Read with n as the channel, c as the sample, g as a kernel of P x Q entries and (k, l) as the output position, this is
a convolution whose dilation is (s, t): the vendor's forward kernel computes it at the speed of any other one. That
kernel wants the channels, here N, last in memory. Two transpositions bring them there: of x (N, H W C) and of
g (N, P Q C').

Where x lies with its channels last, (H, W C, N) is read as one image of width W C whose dilation along the width is
t C, and (l, c) is one output position: longer rows, and no C in the place of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from nn_from_scratch.engine.convolutions.geometry import Geometry, Pair
from nn_from_scratch.engine.layout import channels_last, samples_last

#: Samples in one convolution; beyond, the rows that a transposition writes are further apart than the cache likes.
PART = 64
#: Convolutions at most, however large the batch, so that no more Python runs in a step that is not captured.
MOST_PARTS = 32
#: Columns of positions in one convolution. The vendor's kernel is unrolled along its width, and refused if too wide.
TILE = 32


def suits(x: Tensor, geometry: Geometry) -> bool:
    """Whether this is the fastest way known to the kernel's gradient; where it is not, the columns are.

    Not for a kernel of one entry: its columns are the image itself, and their matrix product needs no copies. Not in
    other dtypes and on other devices: the fast transposition is for this one, and so is the CPU's vendor kernel.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and geometry.groups == 1
        and geometry.dilation == (1, 1)
        and geometry.kernel != (1, 1)
        and x.numel() > 0
    )


def correlate_swapped(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """dl/dw (C', C, K1, K2) from x (N, C, H, W) and g (N, C', P, Q), where `suits` says so."""
    planar = x.is_contiguous()
    if not planar:
        x = channels_last(x)
    part = max(PART, -(-len(x) // MOST_PARTS))
    w: Tensor | None = None
    for image, kernels in zip(samples_last(x, part), _kernels(g, part), strict=True):
        term = _part(image, kernels, x.shape, geometry, planar=planar)
        w = term if w is None else w.add_(term)
    assert w is not None  # there are samples
    return w.contiguous()


def _part(image: Tensor, kernels: Tensor, shape: torch.Size, geometry: Geometry, *, planar: bool) -> Tensor:
    """The term (C', C, K1, K2) of n samples: images (M, n) of (C, H, W) or (H, W, C), kernels (C', n, P, Q)."""
    (_, C, H, W), n, (K1, K2), (s, t) = shape, image.shape[1], geometry.kernel, geometry.stride
    a, b = geometry.padding
    if planar:
        y = _convolve(image.as_strided((C, n, H, W), (H * W * n, 1, W * n, n)), kernels, K2, (s, t), (a, b))
        strides = (y.stride(1), y.stride(0), y.stride(2), y.stride(3))  # of (C, C', K1 or more, K2 or more)
    else:
        wide = image.as_strided((1, n, H, W * C), (H * W * C * n, 1, W * C * n, n))
        y = _convolve(wide, kernels, K2 * C, (s, t * C), (a, b * C))
        strides = (y.stride(1), y.stride(3), y.stride(2), C * y.stride(3))  # of (1, C', K1 or more, K2 C or more)
    return y.as_strided((y.shape[1], C, K1, K2), strides)  # (C', C, K1, K2)


def _kernels(g: Tensor, size: int) -> Iterator[Tensor]:
    """The cotangent g (N, C', P, Q) as (C', n, P, Q) for each part of this size, with the samples last in memory."""
    _, out, P, Q = g.shape
    planar = g.is_contiguous()
    for part in samples_last(g if planar else channels_last(g), size):
        n = part.shape[1]
        strides = (P * Q * n, 1, Q * n, n) if planar else (n, 1, Q * out * n, out * n)
        kernels = part.as_strided((out, n, P, Q), strides)
        yield kernels.contiguous(memory_format=torch.channels_last)


def _convolve(images: Tensor, kernels: Tensor, width: int, dilation: Pair, padding: Pair) -> Tensor:
    """The convolution with stride 1 of which the first `width` columns are wanted, in tiles of the kernels' columns."""
    Q, step = kernels.shape[3], dilation[1]
    if Q <= TILE:
        return torch.conv2d(images, kernels, None, 1, padding, dilation)
    images = pad(images, (padding[1], padding[1]))
    y = None
    for first in range(0, Q, TILE):
        tile = kernels[..., first : first + TILE]
        start = first * step
        window = images[..., start : start + (tile.shape[3] - 1) * step + width]
        term = torch.conv2d(window, tile, None, 1, (padding[0], 0), dilation)
        y = term if y is None else y.add_(term)
    assert y is not None
    return y
