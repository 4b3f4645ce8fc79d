"""The vendor's forward kernels, on channels-last memory; adjoints without scattered additions.

The kernels of oneDNN (CPU) and cuDNN (CUDA) read and write channels-last images without the layout copies that they
make around other ones. All three maps run on the same forward kernel: the adjoint in x is a convolution with stride 1
of the kernel's phases, and the adjoint in w is one with the roles of batch and channels exchanged. Where the vendor has
no fast kernel for that, or columns hold each pixel only a few times, it is one long matrix product with the columns of
x; and wide phases are matrix products where the processor has AVX2 alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from nn_from_scratch.engine.convolutions.columns import convolve, convolve_and_correlate, correlate, image_of
from nn_from_scratch.engine.convolutions.doubled import worth_doubling
from nn_from_scratch.engine.convolutions.geometry import Geometry, Pair, spatial
from nn_from_scratch.engine.convolutions.phases import adjoint_by_phases
from nn_from_scratch.engine.convolutions.shifted import convolve_full, is_full
from nn_from_scratch.engine.convolutions.swapped import correlate_swapped, suits
from nn_from_scratch.engine.layout import channels_last

#: Channels below which an image stays as it lies: to turn it costs more than the kernel gains.
FEW = 8
#: Channels of phases from which matrix products are faster than oneDNN's kernels for AVX2.
WIDE = 32
#: Of a batch, whose phases are computed one after the other there: the border and further channels take memory.
PARTS = 2
#: Times that the columns hold a pixel, up to which a product with them is faster than to turn image and cotangent ...
FEW_COPIES = 4
#: ... if there are more pairs of a channel in and one out than this, or positions are taken two by two: each column is
#: short, and hardly used, otherwise.
FEW_PAIRS = 128
#: Rows of columns, and entries in them, up to which the vendor's kernels take longer to begin than to compute.
FEW_ROWS, FEW_ENTRIES = 1024, 1 << 18


def _is_short(x: Tensor, w: Tensor, geometry: Geometry) -> bool:
    """Whether a product with columns is faster than the vendor's kernel, which takes long to begin."""
    if not suits(x, geometry):
        return False
    P, Q = geometry.output_size(spatial(x))
    rows, entries = len(x) * P * Q, w.numel() // len(w)
    return rows <= FEW_ROWS and w.numel() <= rows * entries < FEW_ENTRIES


def _convolve(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None) -> Tensor:
    g = geometry
    if _is_short(x, w, geometry):
        return convolve(x, w, geometry, bias, parts=2)
    if x.shape[1] >= FEW:
        x = channels_last(x)  # the kernel's layout then follows
    return channels_last(torch.conv2d(x, w, bias, g.stride, g.padding, g.dilation, g.groups))


@cache
def _block(device: str, dtype: torch.dtype) -> int:
    """Of how many channels the phases are best a multiple.

    oneDNN's kernels for AVX2 compute eight at once, and slowly what is left over or lies at a padded border: the phases
    of the report's last layer, 12 channels of 17 x 17, take 0.6 of the time as 16 channels of a cotangent padded
    beforehand. Its kernels for AVX-512 gain nothing.
    """
    avx2 = device == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
    return 8 if avx2 and dtype == torch.float32 else 1


def _convolve_phases(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None) -> Tensor:
    """As `_convolve` with stride 1, for such a processor."""
    a, b = geometry.padding
    if len(w) >= WIDE and is_full(geometry) and x.numel():
        return convolve_full(x, w, bias)
    if a or b:
        x = image_of(x.permute(0, 2, 3, 1), (a, b)).permute(0, 3, 1, 2)
        geometry = replace(geometry, padding=(0, 0))
    return _convolve(x, w, geometry, bias)


def conv2d(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None = None) -> Tensor:
    """The convolution of x (N, C, H, W) with w (C', C/G, K1, K2), plus a bias (C',): (N, C', H', W')."""
    return _convolve(x, w, geometry, bias)


def conv2d_input(g: Tensor, w: Tensor, geometry: Geometry, size: Pair, bias: Tensor | None = None) -> Tensor:
    """The adjoint in x, plus a bias (C,): from g (N, C', H', W') and w (C', C/G, K1, K2) to (N, C, *size)."""
    block = _block(g.device.type, g.dtype)
    if block == 1:
        return adjoint_by_phases(_convolve, g, w, geometry, size, bias)
    convolve = _convolve if geometry.stride == (1, 1) else _convolve_phases
    return adjoint_by_phases(convolve, g, w, geometry, size, bias, block, parts=PARTS)


def conv2d_weight(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """The adjoint in w: from x (N, C, H, W) and g (N, C', H', W') to (C', C/G, K1, K2)."""
    worth = x.shape[1] * g.shape[1] > FEW_PAIRS or worth_doubling(x, geometry, spatial(g), g.shape[1])
    by_columns = not suits(x, geometry) or (_has_few_copies(geometry) and worth)
    return correlate(x, g, geometry) if by_columns else correlate_swapped(x, g, geometry)


def conv2d_and_weight(x: Tensor, w: Tensor, g: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """The convolution of x with w, and the adjoint in w for x and g (N, C', H', W').

    Columns that serve both are worth their copies where either alone would do without them.
    """
    if suits(x, geometry) and _has_few_copies(geometry):
        return convolve_and_correlate(x, w, g, geometry)
    return conv2d(x, w, geometry), conv2d_weight(x, g, geometry)


def _has_few_copies(geometry: Geometry) -> bool:
    (K1, K2), (s, t) = geometry.kernel, geometry.stride
    return FEW_COPIES * s * t >= K1 * K2
