"""The vendor's forward kernels, on channels-last memory; adjoints without scattered additions.

The kernels of oneDNN (CPU) and cuDNN (CUDA) read and write channels-last images without the layout copies that they
make around other ones. All three maps run on the same forward kernel: the adjoint in x is a convolution with stride 1
of the kernel's phases, and the adjoint in w is one with the roles of batch and channels exchanged. Where the vendor has
no fast kernel for that, it is one long matrix product with the columns of x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.convolutions.columns import correlate
from nn_from_scratch.convolutions.geometry import Geometry, Pair
from nn_from_scratch.convolutions.phases import adjoint_by_phases
from nn_from_scratch.convolutions.swapped import correlate_swapped, suits
from nn_from_scratch.layout import channels_last

#: Channels below which an image stays as it lies: to turn it costs more than the kernel gains.
FEW = 8


def _convolve(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None) -> Tensor:
    g = geometry
    if x.shape[1] >= FEW:
        x = channels_last(x)  # the kernel's layout then follows
    return channels_last(torch.conv2d(x, w, bias, g.stride, g.padding, g.dilation, g.groups))


def conv2d(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None = None) -> Tensor:
    """The convolution of x (N, C, H, W) with w (C', C/G, K1, K2), plus a bias (C',): (N, C', H', W')."""
    return _convolve(x, w, geometry, bias)


def conv2d_input(g: Tensor, w: Tensor, geometry: Geometry, size: Pair, bias: Tensor | None = None) -> Tensor:
    """The adjoint in x, plus a bias (C,): from g (N, C', H', W') and w (C', C/G, K1, K2) to (N, C, *size)."""
    return adjoint_by_phases(_convolve, g, w, geometry, size, bias)


def conv2d_weight(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """The adjoint in w: from x (N, C, H, W) and g (N, C', H', W') to (C', C/G, K1, K2)."""
    return correlate_swapped(x, g, geometry) if suits(x, geometry) else correlate(x, g, geometry)
