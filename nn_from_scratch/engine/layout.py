"""How images lie in memory, and the fast ways from one layout to another.

Axes: N batch, C channels, H and W height and width, M entries of one sample.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# To shuffle channels in groups is to transpose the matrix (groups, channels of a group), and torch does that in blocks
# of registers, for this type alone. Its copy of a transposed view goes entry by entry and takes four times as long.
_BLOCKS = torch.float32
# Rows or columns below which the blocks are mostly empty.
_LEAST = 8


def _shuffled(x: Tensor, matrices: int, rows: int) -> Tensor:
    """What lies in the memory of a dense x, read as so many matrices one after another, with each one transposed."""
    size = x.numel() // matrices
    pixels = x.as_strided((matrices, size, 1, 1), (size, 1, size, size))  # a matrix is the channels of one pixel
    return torch.channel_shuffle(pixels, rows)


def samples_last(x: Tensor, most: int) -> Iterator[Tensor]:
    """What lies in the memory of a dense x (N, M entries in whatever order), as new matrices (M, n) with n <= most."""
    N, M = x.shape[0], x.numel() // x.shape[0]
    for first in range(0, N, most):
        part = x[first : first + most]
        n = len(part)
        if x.dtype == _BLOCKS and x.device.type == "cpu" and n >= _LEAST:
            yield _shuffled(part, 1, n).view(M, n)
        else:
            yield part.as_strided((M, n), (1, M)).contiguous()


def copy_in_order(x: Tensor, size: tuple[int, ...], stride: tuple[int, ...], *, out: Tensor) -> None:
    """Write the entries that a view of a dense x gives, of this size, one after another to a contiguous tensor.

    The last two axes of the view must be one run of memory. Two numbers are moved at once where all lie in pairs.
    """
    run, outer = size[-1] * size[-2], stride[:-2]
    even = all(n % 2 == 0 for n in (run, x.numel(), x.storage_offset(), out.storage_offset(), *outer))
    if not even or x.dtype != _BLOCKS or x.device.type != "cpu":
        out.view(size).copy_(x.as_strided(size, stride))
        return
    pairs = torch.view_as_complex(x.as_strided((x.numel() // 2, 2), (2, 1)))
    view = pairs.as_strided((*size[:-2], run // 2), (*[n // 2 for n in outer], 1))
    torch.view_as_complex(out.view(-1, 2)).view(view.shape).copy_(view)


def alike(x: Tensor, other: Tensor) -> Tensor:
    """The tensor x, lying in memory as one of the same shape does, where a fast way leads there; else x as it is.

    An operation on two images of different layouts goes entry by entry, ten times as slowly as on two alike.
    """
    if other.dim() == x.dim() == 4 and other.stride(1) == 1 and x.shape[1] >= _LEAST and x.is_contiguous():
        return channels_last(x)
    return x


def channels_last(x: Tensor) -> Tensor:
    """The tensor x (N, C, H, W), lying in memory as (N, H, W, C); no copy if it lies so already."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return x
    N, C, H, W = x.shape
    if N > 0 and C >= _LEAST and x.dtype == _BLOCKS and x.device.type == "cpu" and x.is_contiguous():
        return _shuffled(x, N, C).as_strided(x.shape, (C * H * W, 1, W * C, C))
    return x.contiguous(memory_format=torch.channels_last)
