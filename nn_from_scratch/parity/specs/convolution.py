"""Convolutions and the affine map."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.engine.convolutions import ALGORITHMS, convolution_algorithm
from nn_from_scratch.engine.layers import Conv2d, Linear, TransposeConv2d
from nn_from_scratch.parity.specs.names import convolution
from nn_from_scratch.verify.catalogue import Case, Spec


def _conv2d(layer: Conv2d, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    g = layer.geometry
    return F.conv2d(x, parameters["weight"], parameters.get("bias"), g.stride, g.padding, g.dilation, g.groups)


def _transpose_conv2d(layer: TransposeConv2d, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    g = layer.geometry
    return F.conv_transpose2d(
        x, parameters["weight"], parameters.get("bias"), g.stride, g.padding, layer.output_padding, g.groups, g.dilation
    )


def _linear(layer: Linear, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return F.linear(x, parameters["weight"], parameters.get("bias"))


CONV2D_CASES = (
    convolution((2, 3, 12, 12), (3, 16), 4, stride=2, padding=1),  # the report's first
    convolution((2, 16, 8, 8), (16, 32), 4, stride=2),  # the report's second
    convolution((3, 2, 4, 5), (2, 3), 1),
    convolution((2, 2, 6, 5), (2, 3), 3),
    convolution((2, 2, 6, 5), (2, 3), 3, bias=False),
    convolution((2, 2, 7, 9), (2, 3), (2, 4), stride=(2, 3), padding=(1, 2), dilation=(3, 2)),
    convolution((2, 2, 8, 7), (2, 3), 3, "remainder", stride=4),
    convolution((2, 4, 6, 5), (4, 6), 3, groups=2, padding=1),
    convolution((2, 3, 6, 5), (3, 6), 3, "depthwise", groups=3, stride=2),
    convolution((1, 1, 3, 3), (1, 1), 3, "one_window"),
)

TRANSPOSE_CONV2D_CASES = (
    convolution((2, 32, 3, 3), (32, 16), 4, stride=2),  # the report's third
    convolution((2, 16, 4, 4), (16, 3), 4, stride=2, padding=1),  # the report's fourth
    convolution((3, 2, 4, 5), (2, 3), 1),
    convolution((2, 2, 4, 5), (2, 3), 3, bias=False),
    convolution((2, 2, 4, 3), (2, 3), (2, 4), stride=(2, 3), padding=(1, 2), dilation=(3, 2), output_padding=(1, 2)),
    convolution((2, 2, 3, 4), (2, 3), 3, output_padding=(2, 1), dilation=(3, 2)),  # above the stride
    convolution((2, 4, 3, 5), (4, 6), 3, groups=2, stride=2, output_padding=1),
    convolution((1, 1, 1, 1), (1, 1), 3, "one_pixel"),
)

# Every algorithm is held to the same reference, not only the one that "auto" takes.
ALGORITHM_WAYS = {name: partial(convolution_algorithm, name) for name in ALGORITHMS}

SPECS = (
    Spec(Conv2d, CONV2D_CASES, _conv2d, variants=ALGORITHM_WAYS),
    Spec(
        Linear,
        (
            Case("batch", ((4, 3),), (3, 5)),
            Case("no_bias", ((4, 3),), (3, 5), {"bias": False}),
            Case("vector", ((3,),), (3, 2)),
            Case("many_axes", ((2, 3, 4),), (4, 2)),
        ),
        _linear,
    ),
    Spec(TransposeConv2d, TRANSPOSE_CONV2D_CASES, _transpose_conv2d, variants=ALGORITHM_WAYS),
)
