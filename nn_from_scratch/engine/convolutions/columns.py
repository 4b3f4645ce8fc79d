"""Columns of an image, and the products with them that make a convolution and its adjoint in the kernel.

Axes: N batch, G groups, C channels in, C' channels out, H and W height and width, P and Q output positions, K1 and K2
kernel height and width, K = K1 K2 C/G entries of the kernel that one output sees, R = N P Q rows.

Images lie with the channels last. A row of the columns then consists of a few contiguous runs of the image (one for
each row of the kernel), and all positions of all samples are the rows of one matrix, so that a whole batch is one
product. The batch is taken in parts whose columns stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nn_from_scratch.engine.convolutions.doubled import (
    doubled_geometry,
    doubled_kernels,
    doubled_results,
    single_kernels,
    single_results,
    worth_doubling,
)
from nn_from_scratch.engine.convolutions.geometry import Geometry, Pair, spatial

#: Bytes of columns in one part. Above the cache of a core the columns go to memory and back, and freshly mapped
#: pages cost more than the product; far below it, the Python work for a part is felt.
PART_BYTES = 1 << 19
#: Bytes of columns that are little beside all else that a step takes; and how many parts are made, at most, so that
#: theirs are no more.
SMALL_BYTES, PARTS = 100 << 10, 8
#: Parts at most, however large the batch: more would be more work for Python in a step that is not captured.
MOST_PARTS = 32


def image_of(x: Tensor, padding: Pair = (0, 0)) -> Tensor:
    """The images x (N, H, W, C) with a border of zeros, contiguous; no copy if they are so already."""
    a, b = padding
    if not (a or b):
        return x.contiguous()
    N, H, W, C = x.shape
    padded = x.new_empty(N, H + 2 * a, W + 2 * b, C).zero_()
    padded[:, a : a + H, b : b + W].copy_(x)
    return padded


class _Columns:
    """The columns (G, R, K), K ordered as (K1, K2, C/G), of so many samples of x (N, C, H, W) at a time.

    What Python does for them is done once: each part is then one or two copies.
    """

    def __init__(self, x: Tensor, geometry: Geometry, positions: Pair, samples: int) -> None:
        _, C, H, W = x.shape
        (a, b), (K1, K2) = geometry.padding, geometry.kernel
        self.copies = geometry.groups != 1 or not geometry.kernel == geometry.stride == (1, 1)
        self.image: Tensor | None = None  # with a border of zeros, if there is one
        if a or b:
            self.image = x.new_empty(samples, H + 2 * a, W + 2 * b, C).zero_()
            self.inside = self.image[:, a : a + H, b : b + W]
        if self.copies:
            G, per_group = geometry.groups, C // geometry.groups
            (s, t), (d, e), row = geometry.stride, geometry.dilation, (W + 2 * b) * C
            self.shape = (G, samples, *positions, K1, K2, per_group)
            self.strides = (per_group, (H + 2 * a) * row, s * row, t * C, d * row, e * C, 1)
            self.columns = x.new_empty(self.shape)
            self.matrix = self.columns.view(G, samples * positions[0] * positions[1], K1 * K2 * per_group)
            if self.image is not None:
                self.windows = self.image.as_strided(self.shape, self.strides)

    def of(self, image: Tensor) -> Tensor:
        """Those of the images (n, H, W, C); they last until the next ones are asked for."""
        if self.image is not None:
            self.inside.copy_(image)
            image = self.image
        elif not image.is_contiguous():
            image = image.contiguous()
        if not self.copies:
            return image.view(1, -1, image.shape[3])  # the pixels are the columns
        windows = image.as_strided(self.shape, self.strides) if self.image is None else self.windows
        self.columns.copy_(windows)
        return self.matrix


def _part(x: Tensor, geometry: Geometry, positions: Pair, parts: int = PARTS) -> int:
    """Samples of x (N, C, H, W) in one part, where small ones need not be more than this."""
    if x.device.type != "cpu":  # a launch costs more
        return len(x) or 1
    entries = len(x) * x.shape[1] * geometry.kernel[0] * geometry.kernel[1] * positions[0] * positions[1]
    size = entries * x.element_size()
    count = max(-(-size // PART_BYTES), min(parts, -(-size // SMALL_BYTES)), 1)
    return max(1, -(-len(x) // min(count, MOST_PARTS)))


def _columns_in_parts(x: Tensor, geometry: Geometry, positions: Pair, part: int) -> Iterator[Tensor]:
    """The columns (G, R, K) of these many samples of x (N, C, H, W) after the other; each lasts until the next."""
    columns = None
    for image in torch.split(x.permute(0, 2, 3, 1), part):
        if columns is None or len(image) < part:  # the first and, perhaps, the last one
            columns = _Columns(x, geometry, positions, len(image))
        yield columns.of(image)


def convolve(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None, parts: int = PARTS) -> Tensor:
    """s[r, j] = sum_m x~[r, m] w~[j, m] + b[j]: from x (N, C, H, W), w (C', C/G, K1, K2) to (N, C', P, Q).

    With fewer parts than usual where memory is not short, as in a forward pass.
    """
    positions = geometry.output_size(spatial(x))
    if worth_doubling(x, geometry, positions, len(w)):
        twice = None if bias is None else torch.cat([bias, bias])
        return single_results(convolve(x, doubled_kernels(w, geometry), doubled_geometry(geometry), twice))
    part = _part(x, geometry, positions, parts)
    product = _Product(x, w, geometry, positions, bias, part)
    for columns in _columns_in_parts(x, geometry, positions, part):
        product.add(columns)
    return product.result()


def correlate(x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
    """dl/dw~[j, m] = sum_r g[r, j] x~[r, m]: from x (N, C, H, W), g (N, C', P, Q) to (C', C/G, K1, K2)."""
    if worth_doubling(x, geometry, spatial(g), g.shape[1]):
        return single_kernels(correlate(x, doubled_results(g), doubled_geometry(geometry)), geometry)
    part = _part(x, geometry, spatial(g))
    correlation = _Correlation(x, g, geometry, part)
    for columns in _columns_in_parts(x, geometry, spatial(g), part):
        correlation.add(columns)
    return correlation.result()


def convolve_and_correlate(x: Tensor, w: Tensor, g: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Both, without a bias, from the same columns of x, which are copied once."""
    if worth_doubling(x, geometry, spatial(g), len(w)):
        kernels, wider = doubled_kernels(w, geometry), doubled_geometry(geometry)
        s, kernels = convolve_and_correlate(x, kernels, doubled_results(g), wider)
        return single_results(s), single_kernels(kernels, geometry)
    part = _part(x, geometry, spatial(g))
    product = _Product(x, w, geometry, spatial(g), None, part)
    correlation = _Correlation(x, g, geometry, part)
    for columns in _columns_in_parts(x, geometry, spatial(g), part):
        product.add(columns)
        correlation.add(columns)
    return product.result(), correlation.result()


class _Product:
    """Columns times kernels w (C', C/G, K1, K2), plus a bias (C',), part by part of so many samples."""

    def __init__(
        self, x: Tensor, w: Tensor, geometry: Geometry, positions: Pair, bias: Tensor | None, part: int
    ) -> None:
        self.bias, self.size = bias, (len(x), *positions, len(w))
        kernels = w.reshape(geometry.groups, -1, *w.shape[1:]).permute(0, 1, 3, 4, 2)
        if kernels.is_contiguous():  # the transposed one serves as well
            self.kernels = kernels.view(*kernels.shape[:2], -1).transpose(1, 2)  # (G, K, C'/G)
        else:
            self.kernels = kernels.permute(0, 2, 3, 4, 1).contiguous().view(geometry.groups, -1, kernels.shape[1])
        self.matrix = self.kernels[0]
        self.rows = x.new_empty(torch.Size(self.size[:3]).numel(), len(w))  # (R, C')
        self.parts = iter(torch.split(self.rows, part * positions[0] * positions[1]))

    def add(self, columns: Tensor) -> None:
        """Multiply the columns (G, R, K) of the samples that come next."""
        rows = next(self.parts)
        if len(columns) > 1:
            G, R, _ = columns.shape
            rows.view(R, G, self.kernels.shape[2]).copy_(torch.bmm(columns, self.kernels).transpose(0, 1))
            if self.bias is not None:
                rows += self.bias
        elif self.bias is not None:
            torch.addmm(self.bias, columns[0], self.matrix, out=rows)
        else:
            torch.mm(columns[0], self.matrix, out=rows)

    def result(self) -> Tensor:
        """All products, as (N, C', P, Q)."""
        return self.rows.view(self.size).permute(0, 3, 1, 2)


class _Correlation:
    """The sum over all samples of cotangents g (N, C', P, Q) times columns of x, part by part of so many samples."""

    def __init__(self, x: Tensor, g: Tensor, geometry: Geometry, part: int) -> None:
        G, K, per_group = geometry.groups, geometry.kernel, x.shape[1] // geometry.groups
        self.kernel, self.beta = (*K, per_group), 0
        self.sum = x.new_empty(G, g.shape[1] // G, K[0] * K[1] * per_group)  # (G, C'/G, K)
        self.parts = _rows(g, G, part)

    def add(self, columns: Tensor) -> None:
        """Add the products with the columns (G, R, K) of the samples that come next."""
        torch.baddbmm(self.sum, next(self.parts), columns, beta=self.beta, out=self.sum)
        self.beta = 1  # with 0 what it holds is ignored

    def result(self) -> Tensor:
        """The sum, as (C', C/G, K1, K2)."""
        return self.sum.view(-1, *self.kernel).permute(0, 3, 1, 2).contiguous()


def _rows(g: Tensor, G: int, part: int) -> Iterator[Tensor]:
    """The cotangents of so many samples of g (N, C', P, Q) after the other, as (G, C'/G, R)."""
    image = g.permute(0, 2, 3, 1)
    per_group = g.shape[1] // G
    if image.is_contiguous():
        rows = image.view(image.shape[:3].numel(), G, per_group).permute(1, 2, 0)
        yield from torch.split(rows, part * g.shape[2] * g.shape[3], dim=2)
    else:
        for samples in torch.split(image, part):
            yield samples.reshape(samples.shape[:3].numel(), G, per_group).permute(1, 2, 0)
