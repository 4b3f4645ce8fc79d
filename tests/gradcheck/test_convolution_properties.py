"""Both convolution layers over every geometry: shape, value, gradient, adjoints, layouts, misuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.engine.convolutions import ALGORITHMS, Geometry
from nn_from_scratch.errors import ArgumentError, GeometryError, ShapeError
from nn_from_scratch.verify import check
from nn_from_scratch.verify.strategies import (
    Convolution,
    Invalid,
    TransposedConvolution,
    convolutions,
    invalid_convolutions,
    invalid_transposed_convolutions,
    tensors,
    transposed_convolutions,
)
from tests.functions import draw

Problem = Convolution | TransposedConvolution
Layer = nn.Conv2d | nn.TransposeConv2d
GEOMETRIES = {"conv2d": convolutions(), "transposed": transposed_convolutions()}

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
both_layers = pytest.mark.parametrize("geometries", GEOMETRIES.values(), ids=GEOMETRIES)


def layer_of(problem: Problem, **options: Any) -> Layer:
    """The layer of this geometry with the kernel that its snippet builds."""
    kind = nn.Conv2d if isinstance(problem, Convolution) else nn.TransposeConv2d
    options = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(2), **problem.options, **options}
    layer = kind(problem.in_channels, problem.out_channels, problem.kernel, **options)
    layer.weight.copy_(problem.operands()[1])
    return layer


def in_torch(problem: Problem, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    function: Any = F.conv2d if isinstance(problem, Convolution) else F.conv_transpose2d
    y: Tensor = function(x, w, b, **problem.options)
    return y


@both_layers
@every_algorithm
@given(data=st.data())
def test_the_value_is_torchs_and_its_shape_the_formulas(
    data: st.DataObject, geometries: st.SearchStrategy[Problem], algorithm: str
) -> None:
    problem = data.draw(geometries)
    layer, (x, w) = layer_of(problem, algorithm=algorithm), problem.operands()
    y = layer(x)
    assert tuple(y.shape) == problem.output_shape
    torch.testing.assert_close(y, in_torch(problem, x, w, layer.bias), rtol=1e-12, atol=1e-12)


@both_layers
@every_algorithm
@given(data=st.data())
def test_the_gradients_agree_with_the_value_by_projection(
    data: st.DataObject, geometries: st.SearchStrategy[Problem], algorithm: str
) -> None:
    problem = data.draw(geometries)
    report = check(layer_of(problem, algorithm=algorithm), problem.operands()[0], checks="gradient", time_limit=None)
    assert report.passed and len(report.results) == 3, report


@every_algorithm
@given(problem=convolutions(batch=(0, 3)))
def test_the_maps_are_adjoint_to_each_other(algorithm: str, problem: Convolution) -> None:
    maps, (x, w) = ALGORITHMS[algorithm], problem.operands()
    geometry = Geometry(problem.kernel, problem.stride, problem.padding, problem.dilation, problem.groups)
    assert geometry.output_size(problem.size) == problem.output_size
    g = draw(*problem.output_shape, seed=1)
    left = (maps.conv2d(x, w, geometry, problem.output_size) * g).sum()
    in_x, in_w = maps.conv2d_input(g, w, geometry, problem.size), maps.conv2d_weight(x, g, geometry)
    assert in_x.shape == x.shape and in_w.shape == w.shape
    torch.testing.assert_close((x * in_x).sum(), left, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close((w * in_w).sum(), left, rtol=1e-11, atol=1e-11)


@every_algorithm
@given(problem=convolutions())
def test_both_layers_are_dual_to_each_other(algorithm: str, problem: Convolution) -> None:
    x, w = problem.operands()
    conv = layer_of(problem, algorithm=algorithm, bias=False)
    transposed = layer_of(problem.transposed, algorithm=algorithm, bias=False)
    transposed.weight.copy_(w)
    y = conv(x)
    g = draw(*y.shape, seed=1)
    there = transposed(g)
    torch.testing.assert_close(there, conv.backward(g), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(transposed.backward(x), y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(conv.weight.grad, transposed.weight.grad, rtol=1e-11, atol=1e-11)


@both_layers
@every_algorithm
@given(data=st.data())
def test_the_memory_layout_changes_nothing(
    data: st.DataObject, geometries: st.SearchStrategy[Problem], algorithm: str
) -> None:
    problem = data.draw(geometries)
    x, g = (data.draw(tensors(s, name=n)) for s, n in ((problem.x_shape, "x"), (problem.output_shape, "g")))
    found = []
    for inputs, cotangent in ((x, g), (x.clone(memory_format=torch.contiguous_format), g.clone())):
        layer = layer_of(problem, algorithm=algorithm)
        y = layer(inputs)
        found.append([y, nn.backward(y, cotangent), *(p.grad for p in layer.parameters().values())])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


@both_layers
@every_algorithm
@given(data=st.data())
def test_what_is_not_finite_spreads_at_least_as_far_as_in_torch(
    data: st.DataObject, geometries: st.SearchStrategy[Problem], algorithm: str
) -> None:
    problem = data.draw(geometries)
    special = ["infinity", "nan"]
    x = data.draw(tensors(problem.x_shape, special=special, layouts=("contiguous",)))
    g = data.draw(tensors(problem.output_shape, special=special, layouts=("contiguous",), name="g"))
    layer = layer_of(problem, algorithm=algorithm)
    leaves = x.clone().requires_grad_(), layer.weight.clone().requires_grad_()
    expected = in_torch(problem, leaves[0], leaves[1], layer.bias)
    expected.backward(g)
    y = layer(x)
    found = [y, nn.backward(y, g), layer.weight.grad]
    for ours, theirs in zip(found, [expected.detach(), *(leaf.grad for leaf in leaves)], strict=True):
        assert isinstance(ours, Tensor) and theirs is not None
        assert not (ours.isfinite() & ~theirs.isfinite()).any()


REFUSALS: dict[str, tuple[type[ArgumentError], str]] = {
    "kernel larger than the input": (
        GeometryError,
        r"input of size .* is smaller than the kernel .*; it needs at least",
    ),
    "padding that leaves nothing": (
        GeometryError,
        "input of size .* would give an output of size .*; use a larger input",
    ),
    "output padding too large": (GeometryError, "output_padding is .*, but it must be less than the stride"),
    "negative output padding": (
        GeometryError,
        "output_padding is .*, but an integer of at least 0, or a pair of them,",
    ),
    "zero kernel": (GeometryError, "kernel_size is .*, but an integer of at least 1, or a pair of them, is expected"),
    "zero stride": (GeometryError, "stride is .*, but an integer of at least 1, or a pair of them, is expected"),
    "negative stride": (GeometryError, "stride is .*, but an integer of at least 1, or a pair of them, is expected"),
    "negative padding": (GeometryError, "padding is .*, but an integer of at least 0, or a pair of them, is expected"),
    "zero dilation": (GeometryError, "dilation is .*, but an integer of at least 1, or a pair of them, is expected"),
    "zero groups": (ArgumentError, "groups is 0, but a positive integer is expected"),
    "in_channels not divisible by groups": (GeometryError, "groups is .*, but in_channels = .* is not divisible by"),
    "out_channels not divisible by groups": (
        GeometryError,
        "groups is .*, but out_channels = .* is not divisible by it",
    ),
    "wrong channels": (ShapeError, "input of .* has shape .* with .* channels, but .* are expected"),
    "wrong number of axes": (ShapeError, r"input of .* has shape .* dimensions, but 4 are expected: \(N, C, H, W\)"),
}


@given(invalid=invalid_convolutions() | invalid_transposed_convolutions())
def test_a_geometry_that_is_not_possible_is_refused_in_one_sentence(invalid: Invalid[Problem]) -> None:
    problem, kind = invalid.geometry, nn.Conv2d if isinstance(invalid.geometry, Convolution) else nn.TransposeConv2d
    error, message = REFUSALS[invalid.fault]
    with pytest.raises(error, match=f"^{message}") as caught:
        kind(problem.in_channels, problem.out_channels, problem.kernel, **problem.options)(torch.zeros(invalid.x_shape))
    assert type(caught.value) is error and "\n" not in str(caught.value)
