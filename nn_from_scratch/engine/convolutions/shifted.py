"""A fully padded convolution with stride 1 as matrix products with views of the image, which hold no copies of it.

Axes: N batch, C channels in, O channels out, H and W height and width, I1 and I2 kernel height and width.

    y[n, o, u, v] = sum_{c, i, j} x[n, c, u + i - (I1 - 1), v + j - (I2 - 1)] w[o, c, i, j]

for all u < H + I1 - 1 and v < W + I2 - 1, with x zero outside. Let the pixels of all samples lie one after another,
each row followed by I2 - 1 pixels of zeros and each sample by I1 - 1 rows of them: as many pixels as y has positions,
and what a position needs to its left or above is a zero of the row or sample before. Then position r of y needs the I2
pixels that begin at r + i (W + I2 - 1), for each row i of the kernel, and those are one run of memory. A matrix whose
rows are the runs of every I2-th position has rows that do not overlap, so a matrix product takes it as it lies; I2 of
them, each beginning one pixel later, are a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.convolutions.geometry import Geometry


def is_full(geometry: Geometry) -> bool:
    """Whether `convolve_full` is this convolution."""
    g = geometry
    K1, K2 = g.kernel
    return g.stride == g.dilation == (1, 1) and g.groups == 1 and g.padding == (K1 - 1, K2 - 1)


def convolve_full(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """From x (N, C, H, W) and w (O, C, I1, I2) plus a bias (O,) to (N, O, H + I1 - 1, W + I2 - 1), channels last."""
    (N, C, H, W), (out, _, I1, I2) = x.shape, w.shape
    rows, columns = H + I1 - 1, W + I2 - 1
    count = -(-N * rows * columns // I2)  # positions in each matrix; a few of the last may be no positions of y
    before = (I1 - 1) * columns + I2 - 1
    pixels = x.new_empty(before + count * I2, C)
    pixels[:before].zero_()
    image = pixels[before : before + N * rows * columns].view(N, rows, columns, C)
    image[:, H:].zero_()
    image[:, :H, W:].zero_()
    image[:, :H, :W].copy_(x.permute(0, 2, 3, 1))
    kernels = w.permute(2, 3, 1, 0).flatten(1, 2)  # (I1, I2 C, O)
    y = x.new_empty(count * I2, out)
    found = y.view(count, I2, out).transpose(0, 1)
    for i in range(I1):
        runs = pixels.as_strided((I2, count, I2 * C), (C, I2 * C, 1), i * columns * C)
        kernel = kernels[i].expand(I2, -1, -1)
        if i > 0:
            found.baddbmm_(runs, kernel)
        elif bias is None:
            torch.bmm(runs, kernel, out=found)
        else:
            torch.baddbmm(bias, runs, kernel, out=found)
    return y[: N * rows * columns].view(N, rows, columns, out).permute(0, 3, 1, 2)
