"""The catalogue: for each layer and loss its cases, as data, and the function of torch that it must equal.

The tests run over it, so a layer that is listed here is covered, and one that is not fails a test. The references
live here, and not beside the layers, because the engine knows nothing of torch's differentiable functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.layer import Layer
from nn_from_scratch.layers import Conv2d, Flatten, Linear, ReLU, Sigmoid, TransposeConv2d
from nn_from_scratch.losses import MSE

Shape = tuple[int, ...]
Reference = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One way to make a layer, and the shapes of its inputs.

    Attributes:
        name: readable and unique within the spec; it becomes part of the test's name.
        shapes: one shape for each input.
        arguments, options: positional and keyword arguments of the constructor.
    """

    name: str
    shapes: tuple[Shape, ...]
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """All that the tests need to know of one layer.

    Attributes:
        layer: the class.
        cases: at least one.
        reference: called with the layer, its parameters by name and the inputs; torch's differentiable equivalent.
        seeded: whether the constructor takes `generator` and `dtype`, because it draws parameters.
    """

    layer: type[Layer]
    cases: tuple[Case, ...]
    reference: Reference
    seeded: bool = False

    def build(self, case: Case, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Layer:
        """The layer of this case, its parameters drawn under the seed."""
        drawn = {"generator": torch.Generator().manual_seed(seed), "dtype": dtype} if self.seeded else {}
        return self.layer(*case.arguments, **case.options, **drawn)


def draw_inputs(case: Case, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Normally distributed inputs of the case's shapes."""
    generator = torch.Generator().manual_seed(seed + 1)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in case.shapes)


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

ELEMENTWISE_CASES = (Case("image", ((2, 3, 4, 5),)), Case("vector", ((7,),)), Case("scalar", ((),)))

CATALOGUE: tuple[Spec, ...] = (
    Spec(Conv2d, CONV2D_CASES, _conv2d, seeded=True),
    Spec(
        Flatten,
        (Case("default", ((2, 3, 4),)), Case("middle", ((2, 3, 4, 5),), (1, 2)), Case("one-axis", ((2, 3),))),
        lambda layer, parameters, x: torch.flatten(x, layer.start_dim, layer.end_dim),
    ),
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
    Spec(
        MSE,
        (Case("batch", ((4, 3), (4, 3))), Case("image", ((2, 3, 4, 5), (2, 3, 4, 5))), Case("one", ((1,), (1,)))),
        lambda layer, parameters, prediction, target: F.mse_loss(prediction, target),
    ),
    Spec(ReLU, ELEMENTWISE_CASES, lambda layer, parameters, x: torch.relu(x)),
    Spec(Sigmoid, ELEMENTWISE_CASES, lambda layer, parameters, x: torch.sigmoid(x)),
    Spec(TransposeConv2d, TRANSPOSE_CONV2D_CASES, _transpose_conv2d, seeded=True),
)


def spec_of(layer: type[Layer]) -> Spec:
    """The entry of this layer.

    Raises:
        KeyError: there is none.
    """
    for spec in CATALOGUE:
        if spec.layer is layer:
            return spec
    raise KeyError(
        f"{layer.__name__} has no entry: add `Spec({layer.__name__}, cases, reference)` to CATALOGUE in "
        "nn_from_scratch/specs.py"
    )
