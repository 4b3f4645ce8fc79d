"""The vendor's kernels, one call for each of the three maps: oneDNN's on a CPU, cuDNN's on CUDA."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from nn_from_scratch.engine.convolutions.geometry import Geometry, Pair

#: Channels of the result below which a transposed convolution goes by the phases of its stride.
MIN_CHANNELS = 8


def conv2d(x: Tensor, w: Tensor, geometry: Geometry, size: Pair, bias: Tensor | None = None) -> Tensor:
    """The convolution of x (N, C, H, W) with w (C', C/G, K1, K2), plus a bias (C',): (N, C', *size)."""
    g = geometry
    return torch.conv2d(x, w, bias, g.stride, g.padding, g.dilation, g.groups)


def conv2d_input(g: Tensor, w: Tensor, geometry: Geometry, size: Pair, bias: Tensor | None = None) -> Tensor:
    """The adjoint in x, plus a bias (C,): from g (N, C', H', W') and w (C', C/G, K1, K2) to (N, C, *size)."""
    (H, W), (p, q), reach = size, geometry.padding, geometry.reach((g.shape[2], g.shape[3]))
    rest = (H + 2 * p - reach[0], W + 2 * q - reach[1])  # rows and columns that the stride leaves over
    if w.shape[1] < MIN_CHANNELS and _has_equal_phases(geometry) and rest[0] <= p and rest[1] <= q:
        return _by_phases(g, w, geometry, bias)[:, :, p : p + H, q : q + W]
    return torch.conv_transpose2d(
        g, w, bias, geometry.stride, geometry.padding, rest, geometry.groups, geometry.dilation
    )


def _has_equal_phases(geometry: Geometry) -> bool:
    (K1, K2), (s, t) = geometry.kernel, geometry.stride
    return s * t > 1 and not (K1 % s or K2 % t) and geometry.groups == 1 and geometry.dilation == (1, 1)


def _by_phases(g: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None) -> Tensor:
    """The adjoint without padding, all that is reached, with a channel for each phase of the stride at first.

    Row i of the result, i = s j + r, is the sum over k of row j - k of g times row s k + r of the kernel: for each
    phase r a convolution with stride 1 (Shi et al., 2016). oneDNN takes half as long for it as for a transposed
    convolution to few channels.
    """
    (N, _, _, _), (D, C, K1, K2), (s, t) = g.shape, w.shape, geometry.stride
    k, m = K1 // s, K2 // t
    kernels = w.view(D, C, k, s, m, t).flip(2, 4).permute(3, 5, 1, 0, 2, 4).reshape(s * t * C, D, k, m)
    y = torch.conv2d(g, kernels, None if bias is None else bias.repeat(s * t), padding=(k - 1, m - 1))
    J, M = y.shape[2:]
    y = y.permute(0, 2, 3, 1).reshape(N, J, M, s, t, C).transpose(2, 3)  # (N, J, s, M, t, C)
    return y.reshape(N, J * s, M * t, C).permute(0, 3, 1, 2)


def conv2d_weight(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """The adjoint in w: from x (N, C, H, W) and g (N, C', H', W') to (C', C/G, K1, K2)."""
    w = _shape_of_weight((g.shape[1], x.shape[1] // geometry.groups, *geometry.kernel), g.dtype, g.device)
    _, gradient, _ = torch.ops.aten.convolution_backward(
        g,
        x,
        w,
        None,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        False,
        (0, 0),
        geometry.groups,
        (False, True, False),
    )
    weight: Tensor = gradient
    return weight


@cache
def _shape_of_weight(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """What stands for the weight, of which the kernel for its gradient looks at the shape alone; one entry."""
    return torch.zeros((), dtype=dtype, device=device).expand(shape)
