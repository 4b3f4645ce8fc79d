"""Two-dimensional convolution and transposed convolution: the same three maps in other roles.

Axes: N batch, C channels in, C' channels out, H and W height and width, K1 and K2 kernel height and width, G groups.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import Unpack

from nn_from_scratch.engine.convolutions import (
    Algorithm,
    Geometry,
    Pair,
    check_algorithm,
    find_algorithm,
    pair,
    spatial,
)
from nn_from_scratch.engine.graph import Record
from nn_from_scratch.engine.layer import Layer, expect_dimensions
from nn_from_scratch.engine.parameters import positive, switch, uniform
from nn_from_scratch.errors import GeometryError, ShapeError


class ConvolutionOptions(TypedDict, total=False):
    """The keyword arguments that both layers take; `Conv2d` describes them."""

    stride: int | Pair
    padding: int | Pair
    dilation: int | Pair
    groups: int
    bias: bool
    algorithm: str
    generator: torch.Generator | None
    device: torch.device | str | None
    dtype: torch.dtype | None


class _Convolution(Layer):
    """The base of both layers: arguments, geometry, parameters."""

    parameter_names = ("weight", "bias")
    output_padding: Pair = (0, 0)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        algorithm: str = "auto",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = positive(in_channels, name="in_channels")
        self.out_channels = positive(out_channels, name="out_channels")
        positive(groups, name="groups")
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise GeometryError(f"groups is {groups}, but {name} = {channels} is not divisible by it")
        self.geometry = Geometry(
            kernel=pair(kernel_size, name="kernel_size", least=1),
            stride=pair(stride, name="stride", least=1),
            padding=pair(padding, name="padding", least=0),
            dilation=pair(dilation, name="dilation", least=1),
            groups=groups,
        )
        self.algorithm = check_algorithm(algorithm)
        channels, per_group = self._weight_channels()
        K1, K2 = self.geometry.kernel
        fan = per_group * K1 * K2
        weight = uniform(channels, per_group, K1, K2, fan=fan, generator=generator, device=device, dtype=dtype)
        # The vendor's kernels then keep images so too, which takes 15 % off an ordinary step on a CPU.
        self.weight: Tensor = weight.contiguous(memory_format=torch.channels_last)
        self.bias: Tensor | None = None
        if switch(bias, name="bias"):
            self.bias = uniform(self.out_channels, fan=fan, generator=generator, device=device, dtype=dtype)

    def _weight_channels(self) -> tuple[int, int]:
        """The first two axes of the weight; the second counts towards the bound of the initial values."""
        return (self.out_channels, self.in_channels // self.geometry.groups)

    @property
    def _maps(self) -> Algorithm:
        return find_algorithm(self.algorithm, self.weight)

    def check_inputs(self, x: Tensor) -> None:
        super().check_inputs(x)
        expect_dimensions(x, self, "N C H W")
        if x.shape[1] != self.in_channels:
            raise ShapeError(
                f"input of {self.short_name()} has shape {tuple(x.shape)} with {x.shape[1]} channels, "
                f"but {self.in_channels} are expected"
            )

    def _with_bias_vjp(self, weight: Tensor, g: Tensor) -> dict[str, Tensor]:
        return {"weight": weight} if self.bias is None else {"weight": weight, "bias": g.sum(dim=(0, 2, 3))}

    def __repr__(self) -> str:
        g = self.geometry

        def short(both: Pair) -> int | Pair:
            return both[0] if both[0] == both[1] else both

        return self.describe(
            self.in_channels,
            self.out_channels,
            short(g.kernel),
            stride=(short(g.stride), 1),
            padding=(short(g.padding), 0),
            output_padding=(short(self.output_padding), 0),
            dilation=(short(g.dilation), 1),
            groups=(g.groups, 1),
            bias=(self.bias is not None, True),
            algorithm=(self.algorithm, "auto"),
        )


class Conv2d(_Convolution):
    """Convolution (strictly: cross-correlation) as in `torch.nn.Conv2d`, zero-padded.

    s = conv2d(x, w) + b;   dl/dx = conv2d_input(g, w);   dl/dw = conv2d_weight(x, g);   dl/db = sum of g, all but C'.

    Input (N, C, H, W), output (N, C', H', W') with H' = floor((H + 2p - d(K1 - 1) - 1) / s) + 1, W' alike.
    Output and weight lie in memory with the channels last, mostly: `reshape` them, where `view` is refused.
    Parameters: weight (C', C/G, K1, K2) and bias (C',), both from U(-sqrt k, sqrt k), k = 1 / ((C/G) K1 K2).

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: K1 = K2, or (K1, K2).
        stride, padding, dilation: one number, or one for the height and one for the width.
        groups: G, which divides C and C'.
        bias: whether b is there.
        algorithm: how the three maps are computed: "unfold", "native", or "auto" for the one of the
            surrounding `convolution_algorithm`, if there is one, else the fastest for the device and dtype.
        generator: source of the initial values; torch's global one by default.
        device, dtype: of the parameters; torch's defaults by default.

    Raises:
        ArgumentError, GeometryError, DtypeError: an argument makes no sense.
        ShapeError, GeometryError, DtypeError, DeviceError: on a call, the input does not fit.
    """

    def forward(self, x: Tensor) -> Tensor:
        size = self.geometry.output_size(spatial(x))
        return self._maps.conv2d(x, self.weight, self.geometry, size, self.bias)

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        return self._maps.conv2d_input(g, self.weight, self.geometry, spatial(record.x))

    def parameter_vjps(self, g: Tensor, record: Record) -> dict[str, Tensor]:
        return self._with_bias_vjp(self._maps.conv2d_weight(record.x, g, self.geometry), g)


class TransposeConv2d(_Convolution):
    """Transposed convolution as in `torch.nn.ConvTranspose2d`: the adjoint of a convolution in its input.

    y = conv2d_input(x, w) + b;   dl/dx = conv2d(g, w);   dl/dw = conv2d_weight(g, x);   dl/db = sum of g, all but C'.

    Input (N, C, H', W'), output (N, C', H, W) with H = (H' - 1) s - 2p + d(K1 - 1) + 1 + output_padding, W alike.
    Parameters: weight (C, C'/G, K1, K2) and bias (C',), both from U(-sqrt k, sqrt k), k = 1 / ((C'/G) K1 K2).

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: K1 = K2, or (K1, K2).
        output_padding: rows and columns added at the bottom and right, less than the stride or the dilation: a
            convolution with a stride maps several sizes to one, and this chooses among them.
        options: stride, padding, dilation (of the convolution that this is the adjoint of), groups, bias, algorithm,
            generator, device and dtype as in `Conv2d`.

    Raises:
        ArgumentError, GeometryError, DtypeError: an argument makes no sense.
        ShapeError, GeometryError, DtypeError, DeviceError: on a call, the input does not fit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        output_padding: int | Pair = 0,
        **options: Unpack[ConvolutionOptions],
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **options)
        self.output_padding = pair(output_padding, name="output_padding", least=0)
        stride, dilation = self.geometry.stride, self.geometry.dilation
        if any(extra >= max(s, d) for extra, s, d in zip(self.output_padding, stride, dilation, strict=True)):
            raise GeometryError(
                f"output_padding is {output_padding}, but it must be less than the stride {stride} or the "
                f"dilation {dilation}"
            )

    def _weight_channels(self) -> tuple[int, int]:
        return (self.in_channels, self.out_channels // self.geometry.groups)

    def forward(self, x: Tensor) -> Tensor:
        size = self.geometry.transposed_size(spatial(x), self.output_padding)
        return self._maps.conv2d_input(x, self.weight, self.geometry, size, self.bias)

    def _reached(self, g: Tensor, positions: Pair) -> tuple[Tensor, Geometry]:
        """The cotangent of what these positions reach, and the geometry that takes exactly that to them.

        Output padding between stride and dilation (allowed, as in PyTorch) gives an output with rows that no kernel
        reaches; a convolution of all of it would have more positions than the input.
        """
        if all(extra < s for extra, s in zip(self.output_padding, self.geometry.stride, strict=True)):
            return g, self.geometry
        (p, q), reach, (H, W) = self.geometry.padding, self.geometry.reach(positions), spatial(g)
        return pad(g, (q, reach[1] - q - W, p, reach[0] - p - H)), replace(self.geometry, padding=(0, 0))

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        positions = spatial(record.x)
        reached, geometry = self._reached(g, positions)
        return self._maps.conv2d(reached, self.weight, geometry, positions)

    def parameter_vjps(self, g: Tensor, record: Record) -> dict[str, Tensor]:
        reached, geometry = self._reached(g, spatial(record.x))
        return self._with_bias_vjp(self._maps.conv2d_weight(reached, record.x, geometry), g)
