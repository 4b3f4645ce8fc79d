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

import torch
from torch import Tensor
from torch.nn.functional import pad

from nn_from_scratch.convolutions.geometry import Geometry, Pair
from nn_from_scratch.layout import channels_last, samples_last

#: Samples in one convolution; beyond, the rows that a transposition writes are further apart than the cache likes.
PART = 64
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
    N = x.shape[0]
    if N <= PART:
        return _part(x, g, geometry)
    w = _part(x[:PART], g[:PART], geometry)
    for first in range(PART, N, PART):
        w += _part(x[first : first + PART], g[first : first + PART], geometry)
    return w


def _part(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    (N, C, H, W), (K1, K2), (s, t), (a, b) = x.shape, geometry.kernel, geometry.stride, geometry.padding
    kernels = _kernels(g)  # (C', N, P, Q)
    if x.is_contiguous():
        images = samples_last(x).as_strided((C, N, H, W), (H * W * N, 1, W * N, N))
        y = _convolve(images, kernels, K2, (s, t), (a, b))  # (C, C', K1 or more, K2 or more)
        strides = (y.stride(1), y.stride(0), y.stride(2), y.stride(3))
    else:
        x = channels_last(x)
        images = samples_last(x).as_strided((1, N, H, W * C), (H * W * C * N, 1, W * C * N, N))
        y = _convolve(images, kernels, K2 * C, (s, t * C), (a, b * C))  # (1, C', K1 or more, K2 C or more)
        strides = (y.stride(1), y.stride(3), y.stride(2), C * y.stride(3))
    return y.as_strided((y.shape[1], C, K1, K2), strides).contiguous()  # (C', C, K1, K2)


def _kernels(g: Tensor) -> Tensor:
    """The cotangent g (N, C', P, Q) as (C', N, P, Q), with the samples last in memory."""
    N, out, P, Q = g.shape
    if g.is_contiguous():
        return samples_last(g).as_strided((out, N, P, Q), (P * Q * N, 1, Q * N, N))
    last = samples_last(channels_last(g)).as_strided((out, N, P, Q), (N, 1, Q * out * N, out * N))
    return last.contiguous(memory_format=torch.channels_last)


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
