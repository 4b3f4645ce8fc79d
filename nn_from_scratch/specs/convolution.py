"""Convolutions and the affine map."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.layers import Conv2d, Linear, TransposeConv2d
from nn_from_scratch.specs.case import Case, Spec


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
    Case("report-1", ((2, 3, 12, 12),), (3, 16, 4), {"stride": 2, "padding": 1}),
    Case("report-2", ((2, 16, 8, 8),), (16, 32, 4), {"stride": 2}),
    Case("k1", ((3, 2, 4, 5),), (2, 3, 1)),
    Case("k3", ((2, 2, 6, 5),), (2, 3, 3)),
    Case("no-bias", ((2, 2, 6, 5),), (2, 3, 3), {"bias": False}),
    Case("not-square", ((2, 2, 7, 9),), (2, 3, (2, 4)), {"stride": (2, 3), "padding": (1, 2), "dilation": (3, 2)}),
    Case("remainder", ((2, 2, 8, 7),), (2, 3, 3), {"stride": 4}),
    Case("groups", ((2, 4, 6, 5),), (4, 6, 3), {"groups": 2, "padding": 1}),
    Case("depthwise", ((2, 3, 6, 5),), (3, 6, 3), {"groups": 3, "stride": 2}),
    Case("one-sample", ((1, 1, 3, 3),), (1, 1, 3)),
)

TRANSPOSE_CONV2D_CASES = (
    Case("report-3", ((2, 32, 3, 3),), (32, 16, 4), {"stride": 2}),
    Case("report-4", ((2, 16, 4, 4),), (16, 3, 4), {"stride": 2, "padding": 1}),
    Case("k1", ((3, 2, 4, 5),), (2, 3, 1)),
    Case("no-bias", ((2, 2, 4, 5),), (2, 3, 3), {"bias": False}),
    Case(
        "not-square",
        ((2, 2, 4, 3),),
        (2, 3, (2, 4)),
        {"stride": (2, 3), "padding": (1, 2), "dilation": (3, 2), "output_padding": (1, 2)},
    ),
    Case("output-padding-above-stride", ((2, 2, 3, 4),), (2, 3, 3), {"output_padding": (2, 1), "dilation": (3, 2)}),
    Case("groups", ((2, 4, 3, 5),), (4, 6, 3), {"groups": 2, "stride": 2, "output_padding": 1}),
    Case("one-pixel", ((1, 1, 1, 1),), (1, 1, 3)),
)

SPECS = (
    Spec(Conv2d, CONV2D_CASES, _conv2d, seeded=True),
    Spec(
        Linear,
        (
            Case("batch", ((4, 3),), (3, 5)),
            Case("no-bias", ((4, 3),), (3, 5), {"bias": False}),
            Case("vector", ((3,),), (3, 2)),
            Case("many-axes", ((2, 3, 4),), (4, 2)),
        ),
        _linear,
        seeded=True,
    ),
    Spec(TransposeConv2d, TRANSPOSE_CONV2D_CASES, _transpose_conv2d, seeded=True),
)
