"""Two neighbouring positions as one, where a position alone reads runs of memory that are too short.

Axes: N batch, C channels in, C' channels out, P and Q output positions, K1 and K2 kernel height and width, t stride
along the width.

The positions q = 2 r and 2 r + 1 of a row together see K2 + t columns of the image. So the convolution is one with
kernels of that width, stride 2 t and 2 C' channels: the kernel itself and the kernel t columns further right, with
zeros around. Lying with their channels last, its (P, Q/2, 2 C') results are the (P, Q, C') wanted. Columns of the image
then hold half as many runs, half again as long (for K2 = 2 t), at the price of products with zeros.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from nn_from_scratch.engine.convolutions.geometry import Geometry, Pair
from nn_from_scratch.engine.layout import channels_last

#: Entries of a run below which to copy it takes no less time than to copy twice as many.
SHORT = 16
#: Rows of columns from which what is saved is more than what the kernels' preparation takes.
MANY = 8192


@cache
def few() -> int:
    """Channels out up to which the products with zeros cost less than the copies, by how fast products are."""
    return 24 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 12


def worth_doubling(x: Tensor, geometry: Geometry, positions: Pair, out: int) -> bool:
    """Whether the columns of x (N, C, H, W) are better those of two positions each, for so many channels out.

    Not everywhere else, because an infinite pixel makes both of them nan that see it: zero times infinity.
    """
    K2, t = geometry.kernel[1], geometry.stride[1]
    possible = geometry.groups == geometry.dilation[1] == 1 and t < K2 and positions[1] % 2 == 0
    rows = len(x) * positions[0] * positions[1]
    return possible and x.device.type == "cpu" and K2 * x.shape[1] < SHORT and out <= few() and rows >= MANY


def doubled_geometry(geometry: Geometry) -> Geometry:
    """Of the convolution for two positions at once."""
    (K1, K2), (s, t) = geometry.kernel, geometry.stride
    return replace(geometry, kernel=(K1, K2 + t), stride=(s, 2 * t))


def doubled_kernels(w: Tensor, geometry: Geometry) -> Tensor:
    """Kernels (2 C', C, K1, K2 + t) for kernels w (C', C, K1, K2)."""
    t = geometry.stride[1]
    return torch.cat([pad(w, (0, t)), pad(w, (t, 0))])


def single_kernels(w: Tensor, geometry: Geometry) -> Tensor:
    """The adjoint of `doubled_kernels`: what both hold of each kernel, added up."""
    out, K2, t = len(w) // 2, geometry.kernel[1], geometry.stride[1]
    return w[:out, ..., :K2] + w[out:, ..., t:]


def doubled_results(g: Tensor) -> Tensor:
    """What was (N, C', P, Q) as (N, 2 C', P, Q/2); a view where the channels lie last."""
    N, out, P, Q = g.shape
    return channels_last(g).permute(0, 2, 3, 1).reshape(N, P, Q // 2, 2 * out).permute(0, 3, 1, 2)


def single_results(s: Tensor) -> Tensor:
    """What is (N, 2 C', P, Q/2), lying with its channels last, as (N, C', P, Q); a view."""
    N, out, P, Q = s.shape
    return s.permute(0, 2, 3, 1).view(N, P, 2 * Q, out // 2).permute(0, 3, 1, 2)
