"""The report's algorithm, as fast as tensor primitives make it: columns of the images, one matrix product with them.

With x~ the columns of x and w~ the kernels as rows (paper, section II.G), r a position of a sample:

    s[r, j] = sum_m w~[j, m] x~[r, m]
    dl/dw~[j, m] = sum_r dl/ds[r, j] x~[r, m]

The gradient of the input is the same product once more, with the columns of the cotangent and the phases of the
kernel; to fold products back, as `im2col` does, adds each entry to memory up to K1 K2 times.
"""

from __future__ import annotations

from torch import Tensor

from nn_from_scratch.engine.convolutions.columns import convolve, convolve_and_correlate, correlate
from nn_from_scratch.engine.convolutions.geometry import Geometry, Pair
from nn_from_scratch.engine.convolutions.phases import adjoint_by_phases


def conv2d(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None = None) -> Tensor:
    """The convolution of x (N, C, H, W) with w (C', C/G, K1, K2), plus a bias (C',): (N, C', H', W')."""
    return convolve(x, w, geometry, bias)


def conv2d_input(g: Tensor, w: Tensor, geometry: Geometry, size: Pair, bias: Tensor | None = None) -> Tensor:
    """The adjoint in x, plus a bias (C,): from g (N, C', H', W') and w (C', C/G, K1, K2) to (N, C, *size)."""
    return adjoint_by_phases(convolve, g, w, geometry, size, bias)


def conv2d_weight(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """The adjoint in w: from x (N, C, H, W) and g (N, C', H', W') to (C', C/G, K1, K2)."""
    return correlate(x, g, geometry)


def conv2d_and_weight(x: Tensor, w: Tensor, g: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """The convolution of x with w, and the adjoint in w for x and g (N, C', H', W'), from the same columns of x."""
    return convolve_and_correlate(x, w, g, geometry)
