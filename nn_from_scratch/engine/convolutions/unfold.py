"""The report's algorithm: unfold the images into columns, one batched matrix product, fold back.

Axes: N batch, G groups, C channels in, C' channels out, K = (C / G) K1 K2 entries of the kernel that one output sees,
P = H' W' output positions. With x~ the columns of x and w~ the kernels as rows (report, II.G):

    s~[n, j, p] = sum_m w~[j, m] x~[n, m, p]
    dl/dx~[n, m, p] = sum_j w~[j, m] dl/ds~[n, j, p]
    dl/dw~[j, m] = sum_{n, p} dl/ds~[n, j, p] x~[n, m, p]
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import fold, pad, unfold

from nn_from_scratch.engine.convolutions.geometry import Geometry, Pair


def _columns(x: Tensor, geometry: Geometry) -> Tensor:
    g = geometry
    columns = unfold(x, g.kernel, dilation=g.dilation, padding=g.padding, stride=g.stride)  # (N, G K, P)
    return columns.reshape(len(x), g.groups, columns.shape[1] // g.groups, columns.shape[2])  # (N, G, K, P)


def _rows(w: Tensor, geometry: Geometry) -> Tensor:
    return w.reshape(geometry.groups, len(w) // geometry.groups, -1)  # (G, C'/G, K)


def _rows_of_cotangent(g: Tensor, geometry: Geometry) -> Tensor:
    N, C, H, W = g.shape
    return g.reshape(N, geometry.groups, C // geometry.groups, H * W)  # (N, G, C'/G, P)


def _plus(bias: Tensor | None, y: Tensor) -> Tensor:
    return y if bias is None else y.add_(bias[:, None, None])


def conv2d(x: Tensor, w: Tensor, geometry: Geometry, size: Pair, bias: Tensor | None = None) -> Tensor:
    """The convolution of x (N, C, H, W) with w (C', C/G, K1, K2), plus a bias (C',): (N, C', *size)."""
    s = _rows(w, geometry) @ _columns(x, geometry)  # (N, G, C'/G, P)
    return _plus(bias, s.view(len(x), len(w), *size))  # (N, C', H', W')


def conv2d_input(g: Tensor, w: Tensor, geometry: Geometry, size: Pair, bias: Tensor | None = None) -> Tensor:
    """The adjoint in x, plus a bias (C,): from g (N, C', H', W') and w (C', C/G, K1, K2) to (N, C, *size)."""
    columns = _rows(w, geometry).mT @ _rows_of_cotangent(g, geometry)  # (N, G, K, P)
    (H, W), (p, q), reach = size, geometry.padding, geometry.reach((g.shape[2], g.shape[3]))
    # Folded without padding and then cut out: a transposed convolution may ask for rows that no kernel reaches.
    x = fold(
        columns.flatten(1, 2),  # (N, G K, P)
        reach,
        geometry.kernel,
        dilation=geometry.dilation,
        stride=geometry.stride,
    )
    return _plus(bias, pad(x, (-q, W + q - reach[1], -p, H + p - reach[0])))


def conv2d_weight(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """The adjoint in w: from x (N, C, H, W) and g (N, C', H', W') to (C', C/G, K1, K2)."""
    # A product for each sample and then their sum reads the columns where they are; one long product over all samples
    # would first have to copy them into another order, which costs more than it saves.
    w = (_rows_of_cotangent(g, geometry) @ _columns(x, geometry).mT).sum(dim=0)  # (G, C'/G, K)
    return w.view(g.shape[1], x.shape[1] // geometry.groups, *geometry.kernel)  # (C', C/G, K1, K2)
