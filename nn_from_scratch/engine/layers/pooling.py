"""Pooling: the maximum or the mean of each window.

Axes: N batch, C channels, H and W height and width, H' and W' those of the output, K entries of a window,
P = H' W' windows.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import fold, max_pool2d, pad

from nn_from_scratch.engine.convolutions import Pair, pair, spatial
from nn_from_scratch.engine.graph import Record, Saving
from nn_from_scratch.engine.layer import Layer, expect_dimensions
from nn_from_scratch.engine.parameters import switch
from nn_from_scratch.errors import ArgumentError, GeometryError


class _Pooling(Layer):
    """The base of both poolings: the windows."""

    needs_inputs = False

    dilation: Pair = (1, 1)

    def __init__(
        self, kernel_size: int | Pair, *, stride: int | Pair | None, padding: int | Pair, ceil_mode: bool
    ) -> None:
        super().__init__()
        self.kernel = pair(kernel_size, name="kernel_size", least=1)
        self.stride = self.kernel if stride is None else pair(stride, name="stride", least=1)
        self.padding = pair(padding, name="padding", least=0)
        self.ceil_mode = switch(ceil_mode, name="ceil_mode")

    @property
    def extent(self) -> Pair:
        """Rows and columns that a window spans: d (K - 1) + 1."""
        (K1, K2), (d1, d2) = self.kernel, self.dilation
        return d1 * (K1 - 1) + 1, d2 * (K2 - 1) + 1

    def _check_padding(self) -> None:
        # Half of the kernel also where dilation makes the window larger, as in PyTorch.
        if any(2 * p > K for p, K in zip(self.padding, self.kernel, strict=True)):
            raise GeometryError(
                f"padding is {self.padding}, but it must be at most half of the kernel {self.kernel}: a window of "
                "padding alone has no entries"
            )

    def output_size(self, size: Pair) -> Pair:
        """(H', W') for an input of (H, W).

        floor((H + 2p - d(K1 - 1) - 1) / s) + 1; in `ceil_mode` rounded up, without a last window that would start
        in the padding at the end.

        Raises:
            GeometryError: the window is larger than the padded input.
        """
        found = []
        for n, extent, s, p in zip(size, self.extent, self.stride, self.padding, strict=True):
            count = (n + 2 * p - extent + (s - 1 if self.ceil_mode else 0)) // s + 1
            if self.ceil_mode and (count - 1) * s >= n + p:
                count -= 1
            found.append(count)
        if min(found) < 1:
            raise GeometryError(
                f"input of size {size} with padding {self.padding} is smaller than the window of {self.short_name()}, "
                f"which spans {self.extent}"
            )
        return found[0], found[1]

    def check_inputs(self, x: Tensor) -> None:
        super().check_inputs(x)
        expect_dimensions(x, self, "N C H W")
        self.output_size(spatial(x))

    def _describe(self, **options: tuple[object, object]) -> str:
        def short(both: Pair) -> int | Pair:
            return both[0] if both[0] == both[1] else both

        return self.describe(
            short(self.kernel),
            stride=(short(self.stride), short(self.kernel)),
            padding=(short(self.padding), 0),
            dilation=(short(self.dilation), 1),
            ceil_mode=(self.ceil_mode, False),
            **options,
        )


@cache
def _some_window_is_empty(n: int, count: int, K: int, s: int, p: int, d: int) -> bool:
    """Whether the entries i s - p + k d of some window i all lie in the padding, which only dilation makes possible."""
    return not all(any(0 <= i * s - p + k * d < n for k in range(K)) for i in range(count))


class MaxPool2d(_Pooling):
    """y at p = the largest x of window p, found at i(p);   dl/dx at i = sum of g over the windows p with i(p) = i.

    Among equal entries the first one in the window is taken, and with it the whole cotangent, as in PyTorch.
    Input (N, C, H, W), output (N, C, H', W'), see `output_size`. Padding never wins.

    Args:
        kernel_size: K1 = K2, or (K1, K2).
        stride: of the windows; the kernel size by default.
        padding: rows and columns on each side, at most half of the kernel.
        dilation: distance between the entries of a window.
        ceil_mode: whether a last window may reach over the end.

    Raises:
        GeometryError: an argument makes no sense.
        ShapeError, GeometryError, DtypeError: on a call, the input does not fit.
    """

    complex_inputs = False

    def __init__(
        self,
        kernel_size: int | Pair,
        *,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode)
        self.dilation = pair(dilation, name="dilation", least=1)
        self._check_padding()

    def check_inputs(self, x: Tensor) -> None:
        super().check_inputs(x)
        size = spatial(x)
        for n, count, K, s, p, d in zip(
            size, self.output_size(size), self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            if d > 1 and _some_window_is_empty(n, count, K, s, p, d):
                raise GeometryError(
                    f"input of size {size} leaves a window of {self.short_name()} with padding alone; use less "
                    "dilation or padding"
                )

    def forward(self, x: Tensor) -> Saving:
        y, i = max_pool2d(
            x, self.kernel, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode, return_indices=True
        )
        return Saving(y, (i,))

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        (i,) = record.saved
        gradient = g.new_zeros(record.x.shape).flatten(2)  # (N, C, H W)
        return gradient.scatter_add_(2, i.flatten(2), g.flatten(2)).reshape(record.x.shape)

    def __repr__(self) -> str:
        return self._describe()


class AvgPool2d(_Pooling):
    """y at p = (sum of x over window p) / d(p);   dl/dx at i = sum of g / d over the windows that contain i.

    d(p) counts the entries of window p: with the padding if `count_include_pad`, and never what lies beyond it.
    Input (N, C, H, W), output (N, C, H', W'), see `output_size`.

    Args:
        kernel_size: K1 = K2, or (K1, K2).
        stride: of the windows; the kernel size by default.
        padding: rows and columns of zeros on each side, at most half of the kernel.
        ceil_mode: whether a last window may reach over the end.
        count_include_pad: whether the padding's zeros count as entries.
        divisor_override: taken instead of d, if given.

    Raises:
        ArgumentError, GeometryError: an argument makes no sense.
        ShapeError, GeometryError, DtypeError: on a call, the input does not fit.
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        *,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode)
        self._check_padding()
        self.count_include_pad = switch(count_include_pad, name="count_include_pad")
        if divisor_override is not None and (not isinstance(divisor_override, int) or divisor_override in (0, False)):
            raise ArgumentError(f"divisor_override is {divisor_override!r}, but an integer other than 0 is expected")
        self.divisor_override = divisor_override

    def _counts(self, like: Tensor) -> Tensor | int:
        """d, of shape (H', W')."""
        if self.divisor_override is not None:
            return self.divisor_override
        size = spatial(like)
        along = []
        for n, count, K, s, p in zip(size, self.output_size(size), self.kernel, self.stride, self.padding, strict=True):
            first = torch.arange(count, device=like.device) * s - p
            last = (first + K).clamp(max=n + p)
            if not self.count_include_pad:
                first, last = first.clamp(min=0), last.clamp(max=n)
            along.append(last - first)
        return along[0][:, None] * along[1]

    def _padded_size(self, size: Pair) -> Pair:
        """The rows and columns that the windows reach, and at least the padded input."""
        (H, W), (a, b) = self.output_size(size), self.padding
        (s, t), (K1, K2) = self.stride, self.kernel
        return max((H - 1) * s + K1, size[0] + 2 * a), max((W - 1) * t + K2, size[1] + 2 * b)

    def forward(self, x: Tensor) -> Tensor:
        (H, W), (a, b) = spatial(x), self.padding
        rows, columns = self._padded_size((H, W))
        z = pad(x, (b, columns - W - b, a, rows - H - a))
        windows = z.unfold(2, self.kernel[0], self.stride[0]).unfold(3, self.kernel[1], self.stride[1])
        H_out, W_out = self.output_size((H, W))
        return windows[:, :, :H_out, :W_out].sum(dim=(4, 5)) / self._counts(x)  # (N, C, H', W')

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        x = record.x
        (N, C, H, W), (a, b) = x.shape, self.padding
        K = self.kernel[0] * self.kernel[1]
        P = g.shape[2] * g.shape[3]
        shares = (g / self._counts(x)).reshape(N, C, 1, P).expand(N, C, K, P).reshape(N, C * K, P)
        rows, columns = self._padded_size((H, W))
        # fold wants every window that fits: the size that the windows reach, and nothing beyond it; no
        # channels are an error to it.
        (s, t), (K1, K2) = self.stride, self.kernel
        reached = ((g.shape[2] - 1) * s + K1, (g.shape[3] - 1) * t + K2)
        z = fold(shares, reached, self.kernel, stride=self.stride) if g.numel() else g.new_zeros(N, C, *reached)
        z = pad(z, (0, columns - reached[1], 0, rows - reached[0]))
        return z[:, :, a : a + H, b : b + W]

    def __repr__(self) -> str:
        return self._describe(
            count_include_pad=(self.count_include_pad, True), divisor_override=(self.divisor_override, None)
        )
