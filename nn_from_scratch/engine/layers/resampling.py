"""Layers that change the resolution.

Axes: N batch, C channels, H and W height and width, H' and W' those of the output, r factor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import number
from nn_from_scratch.engine.convolutions import Pair, pair, spatial
from nn_from_scratch.engine.graph import Record
from nn_from_scratch.engine.layer import Layer, expect_dimensions
from nn_from_scratch.engine.parameters import positive
from nn_from_scratch.errors import ArgumentError, GeometryError, ShapeError

# How one axis is resampled: entry i of the output is the sum of w[i] x[k[i]] over the pairs (k, w).
Taps = list[tuple[Tensor, Tensor | None]]


class Upsample(Layer):
    """y at (i, j) = sum of u[i] v[j] x at (k[i], l[j]);   dl/dx at (k, l) = sum of u[i] v[j] g, k[i] = k, l[j] = l.

    "nearest": one term, k[i] = floor(i s) with s = H / H' or 1 / scale_factor, and weights 1.
    "bilinear": two neighbors along each axis. The output's pixel i lies at t = (i + 1/2) s - 1/2 among the
    input's, or with `align_corners` at t = i (H - 1) / (H' - 1); k is floor(t) with weight 1 - (t - k), and k + 1
    with weight t - k.

    Input (N, C, H, W), output (N, C, H', W') with H' = floor(H scale_factor), or as `size` says.

    Args:
        size: H' = W', or (H', W').
        scale_factor: H' / H = W' / W, or one for each; instead of `size`.
        mode: "nearest" or "bilinear".
        align_corners: whether the corner pixels' centers stay where they are; for "bilinear" alone.

    Raises:
        ArgumentError, GeometryError: an argument makes no sense.
        ShapeError, GeometryError, DtypeError: on a call, the input does not fit.
    """

    needs_inputs = False

    def __init__(
        self,
        size: int | Pair | None = None,
        *,
        scale_factor: float | tuple[float, float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ArgumentError(
                f"size is {size!r} and scale_factor is {scale_factor!r}, but exactly one of them is expected"
            )
        if mode not in ("nearest", "bilinear"):
            raise ArgumentError(f"mode is {mode!r}, but 'nearest' or 'bilinear' is expected")
        if align_corners is not None and mode == "nearest":
            raise ArgumentError(f"align_corners is {align_corners!r}, but it belongs to mode='bilinear' alone")
        self.size = None if size is None else pair(size, name="size", least=1)
        self.scale_factor = None if scale_factor is None else _factors(scale_factor)
        self.mode = mode
        self.align_corners = align_corners

    def output_size(self, size: Pair) -> Pair:
        """(H', W') for an input of (H, W).

        Raises:
            GeometryError: nothing would be left of the input.
        """
        if self.size is not None:
            return self.size
        assert self.scale_factor is not None
        height, width = (int(n * factor) for n, factor in zip(size, self.scale_factor, strict=True))
        if height < 1 or width < 1:
            raise GeometryError(f"input of size {size} would give an output of size {(height, width)} in {self!r}")
        return height, width

    def check_inputs(self, x: Tensor) -> None:
        super().check_inputs(x)
        expect_dimensions(x, self, "N C H W")
        if 0 in spatial(x):
            raise ShapeError(f"input of {self.short_name()} has shape {tuple(x.shape)}, but there must be pixels")
        self.output_size(spatial(x))

    def _taps(self, x: Tensor, place: int) -> Taps:
        """The terms along the height (place 0) or the width (place 1)."""
        n, count = spatial(x)[place], self.output_size(spatial(x))[place]
        i = torch.arange(count, device=x.device)
        if n == count:
            return [(i, None)]
        factor = None if self.scale_factor is None else self.scale_factor[place]
        if self.mode == "nearest":
            if count == 2 * n:  # also where the factor is not quite 2, as torch does
                return [(i // 2, None)]
            # In float32 whatever the input is, as torch does: at whole numbers the rounding decides.
            one = torch.ones((), dtype=torch.float32, device=x.device)
            s = one * n / count if factor is None else one * (1 / factor)
            return [((i * s).floor().long().clamp(max=n - 1), None)]
        i = i.to(torch.promote_types(x.real.dtype, torch.float32))
        if self.align_corners:
            t = i * ((n - 1) / (count - 1) if count > 1 else 0.0)
        else:
            t = ((i + 0.5) * (n / count if factor is None else 1 / factor) - 0.5).clamp(min=0)
        k = t.floor().long().clamp(max=n - 1)
        w = (t - k).clamp(max=1).to(x.real.dtype)
        return [(k, 1 - w), ((k + 1).clamp(max=n - 1), w)]

    def forward(self, x: Tensor) -> Tensor:
        for dim, place in ((2, 0), (3, 1)):
            terms = [_weighted(x.index_select(dim, k), w, dim) for k, w in self._taps(x, place)]
            x = terms[0] if len(terms) == 1 else terms[0] + terms[1]
        return x

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        x = record.x
        for dim, place in ((3, 1), (2, 0)):
            shape = (*g.shape[:dim], x.shape[dim], *g.shape[dim + 1 :])
            gradient = g.new_zeros(shape)
            for k, w in self._taps(x, place):
                gradient.index_add_(dim, k, _weighted(g, w, dim))
            g = gradient
        return g

    def __repr__(self) -> str:
        return self.describe(
            size=(_short(self.size), None),
            scale_factor=(_short(self.scale_factor), None),
            mode=(self.mode, "nearest"),
            align_corners=(self.align_corners, None),
        )


def _factors(value: float | tuple[float, float]) -> tuple[float, float]:
    both = value if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2 or not all(number(factor) and factor > 0 for factor in both):
        raise ArgumentError(f"scale_factor is {value!r}, but a positive number, or a pair of them, is expected")
    return float(both[0]), float(both[1])


def _short(both: tuple[object, object] | None) -> object:
    return both[0] if both is not None and both[0] == both[1] else both


def _weighted(x: Tensor, w: Tensor | None, dim: int) -> Tensor:
    return x if w is None else x * w.reshape(-1, *(1,) * (3 - dim))


class PixelShuffle(Layer):
    """y at (c, h r + a, w r + b) = x at (c r^2 + a r + b, h, w);   dl/dx is g, moved back.

    Input (N, C r^2, H, W), output (N, C, H r, W r) (Shi et al., 2016).

    Args:
        upscale_factor: r.

    Raises:
        ArgumentError: the factor is not a positive integer.
        ShapeError, DtypeError: on a call, the input does not fit.
    """

    needs_inputs = False

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = positive(upscale_factor, name="upscale_factor")

    def check_inputs(self, x: Tensor) -> None:
        super().check_inputs(x)
        expect_dimensions(x, self, "N C H W")
        if x.shape[1] % self.upscale_factor**2:
            raise ShapeError(
                f"input of {self.short_name()} has shape {tuple(x.shape)} with {x.shape[1]} channels, but a multiple "
                f"of {self.upscale_factor**2} is expected"
            )

    def forward(self, x: Tensor) -> Tensor:
        r = self.upscale_factor
        N, C, H, W = x.shape
        z = x.reshape(N, C // r**2, r, r, H, W)
        # contiguous copies, as every layer makes one: writing to the output must not change the input.
        return z.permute(0, 1, 4, 2, 5, 3).reshape(N, C // r**2, H * r, W * r).clone()

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        r = self.upscale_factor
        N, C, H, W = record.x.shape
        z = g.reshape(N, C // r**2, H, r, W, r)
        return z.permute(0, 1, 3, 5, 2, 4).reshape(N, C, H, W)

    def __repr__(self) -> str:
        return self.describe(self.upscale_factor)
