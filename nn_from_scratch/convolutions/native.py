"""The vendor's forward kernels, on channels-last memory; adjoints without scattered additions.

The kernels of oneDNN (CPU) and cuDNN (CUDA) read and write channels-last images without the layout copies that they
make around other ones. The adjoint in x is a convolution with stride 1 of the kernel's phases, so it runs on the same
forward kernel. The adjoint in w is a sum over all positions of all samples: one long matrix product with the columns
of x. A convolution with the roles of batch and channels exchanged computes it too, but its kernel is as large as an
image, which the vendors' kernels are not made for, and both operands would have to be transposed first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.convolutions.columns import correlate
from nn_from_scratch.convolutions.geometry import Geometry, Pair
from nn_from_scratch.convolutions.phases import adjoint_by_phases


def _convolve(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None) -> Tensor:
    g = geometry
    x = x.contiguous(memory_format=torch.channels_last)  # the kernel's layout then follows
    return torch.conv2d(x, w, bias, g.stride, g.padding, g.dilation, g.groups)


def conv2d(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None = None) -> Tensor:
    """The convolution of x (N, C, H, W) with w (C', C/G, K1, K2), plus a bias (C',): (N, C', H', W')."""
    return _convolve(x, w, geometry, bias)


def conv2d_input(g: Tensor, w: Tensor, geometry: Geometry, size: Pair, bias: Tensor | None = None) -> Tensor:
    """The adjoint in x, plus a bias (C,): from g (N, C', H', W') and w (C', C/G, K1, K2) to (N, C, *size)."""
    return adjoint_by_phases(_convolve, g, w, geometry, size, bias)


def conv2d_weight(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """The adjoint in w: from x (N, C, H, W) and g (N, C', H', W') to (C', C/G, K1, K2)."""
    return correlate(x, g, geometry)
