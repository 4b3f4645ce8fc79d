"""Sums over many entries, in an order in which the processor takes as many at once as it can.

On a CPU torch sums along memory in full registers, but over the rows of a matrix with few columns in nearly empty ones,
and a square is written to memory before it is summed.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Others are rounded after each stage (float16), or their squares are no squares of a norm (complex numbers).
_STAGED = (torch.float32, torch.float64)
#: Entries in a row whose norm is taken: a norm adds up in few places, which loses digits where it is long.
RUN = 1024
#: Columns from which registers are full.
FULL = 32


def sum_of_squares(x: Tensor) -> Tensor:
    """The sum of x^2 over all entries of a tensor of any shape and dtype; shape ()."""
    dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
    if x.device.type != "cpu" or x.dtype not in _STAGED or not dense or x.numel() % RUN or not x.numel():
        return x.square().sum()
    norms: Tensor = torch.linalg.vector_norm(x.as_strided((x.numel() // RUN, RUN), (RUN, 1)), dim=1)
    return norms.square_().sum()


def channel_sums(x: Tensor) -> Tensor:
    """The sums of x (N, C, H, W) over all axes but that of the channels: (C,)."""
    N, C, H, W = x.shape
    count = N * H * W
    # So many pixels are a row of the matrix: a power of two that divides their number.
    times = min(1 << (-(-FULL // max(C, 1)) - 1).bit_length(), count & -count)
    last = x.is_contiguous(memory_format=torch.channels_last)
    if x.device.type != "cpu" or x.dtype not in _STAGED or not last or times < 2:
        return x.sum(dim=(0, 2, 3))
    rows = x.as_strided((count // times, times * C), (times * C, 1))
    return rows.sum(dim=0).view(times, C).sum(dim=0)
