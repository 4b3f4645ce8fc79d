"""Both poolings over every geometry: shape, value, gradient, ties, layouts, special values, misuse."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError, GeometryError, ShapeError
from nn_from_scratch.verify import check
from nn_from_scratch.verify.strategies import Invalid, Pooling, invalid_poolings, poolings, tensors

means = poolings(dilation=False)
divisions: Any = st.fixed_dictionaries(
    {"count_include_pad": st.booleans(), "divisor_override": st.sampled_from([None, 3])}
)


def mean_options(problem: Pooling) -> dict[str, Any]:
    """Of a mean, which has no dilation."""
    return {name: value for name, value in problem.options.items() if name != "dilation"}


def agree(layer: nn.Layer, reference: Any, problem: Pooling, x: Tensor, g: Tensor) -> None:
    """Shape, value and gradient, for operands of any memory layout, against torch's for contiguous ones."""
    leaf = x.clone(memory_format=torch.contiguous_format).requires_grad_()
    expected = reference(leaf)
    expected.backward(g.clone(memory_format=torch.contiguous_format))
    y = layer(x)
    assert tuple(y.shape) == problem.output_shape == tuple(expected.shape)
    torch.testing.assert_close(y, expected.detach(), rtol=1e-12, atol=1e-13, equal_nan=True)
    torch.testing.assert_close(nn.backward(y, g), leaf.grad, rtol=1e-12, atol=1e-12, equal_nan=True)


@given(data=st.data(), problem=poolings(batch=(0, 2)))
def test_the_maximum_is_torchs_with_ties_and_special_values_in_any_layout(
    data: st.DataObject, problem: Pooling
) -> None:
    x = data.draw(tensors(problem.x_shape, special=["tie", "zero", "negative_zero", "infinity", "nan", "huge"]))
    g = data.draw(tensors(problem.output_shape, name="g"))
    layer = nn.MaxPool2d(problem.kernel, **problem.options)
    agree(layer, lambda x: F.max_pool2d(x, problem.kernel, **problem.options), problem, x, g)


@given(data=st.data(), problem=poolings(batch=(0, 2), dilation=False), options=divisions)
def test_the_mean_is_torchs_with_special_values_in_any_layout(
    data: st.DataObject, problem: Pooling, options: dict[str, Any]
) -> None:
    x = data.draw(tensors(problem.x_shape, special=["tie", "zero", "infinity", "nan"]))
    g = data.draw(tensors(problem.output_shape, name="g", special=["zero", "infinity", "nan"]))
    options = {**mean_options(problem), **options}
    agree(nn.AvgPool2d(problem.kernel, **options), lambda x: F.avg_pool2d(x, problem.kernel, **options), problem, x, g)


@given(problem=poolings())
def test_the_gradient_of_the_maximum_agrees_with_it_by_projection(problem: Pooling) -> None:
    layer = nn.MaxPool2d(problem.kernel, **problem.options)
    report = check(layer, *problem.operands(), checks="gradient", time_limit=None)
    assert report.passed, report


@given(problem=means, options=divisions)
def test_the_gradient_of_the_mean_agrees_with_it_by_projection(problem: Pooling, options: dict[str, Any]) -> None:
    layer = nn.AvgPool2d(problem.kernel, **mean_options(problem), **options)
    report = check(layer, *problem.operands(), checks="gradient", time_limit=None)
    assert report.passed, report


def gives(make: Callable[[], object], refusal: type[Exception]) -> bool:
    try:
        make()
    except refusal:
        return False
    return True


def test_the_geometries_are_what_the_layer_and_torch_accept() -> None:
    for k, s, p, d, n, ceil_mode in product((1, 2, 3), (1, 2), (0, 1), (1, 2, 3), (1, 2, 3), (False, True)):
        options: Any = {"stride": s, "padding": p, "dilation": d, "ceil_mode": ceil_mode}
        drawn = gives(partial(poolings, kernel=k, size=n, **options), ArgumentError)
        x = torch.zeros(1, 1, n, n)
        assert drawn == gives(lambda: nn.MaxPool2d(k, **options)(x), GeometryError)  # noqa: B023
        if p == 0 or d == 1:  # else a window may hold padding alone, and torch writes outside of its memory
            assert drawn == gives(partial(F.max_pool2d, x, k, **options), RuntimeError)


REFUSALS: dict[str, tuple[type[ArgumentError], str]] = {
    "window larger than the input": (GeometryError, "input of size .* is smaller than the window of .*, which spans"),
    "padding over half of the kernel": (GeometryError, "padding is .*, but it must be at most half of the kernel"),
    "window of padding alone": (GeometryError, "input of size .* leaves a window of .* with padding alone; use less"),
    "zero kernel": (GeometryError, "kernel_size is .*, but an integer of at least 1, or a pair of them, is expected"),
    "zero stride": (GeometryError, "stride is .*, but an integer of at least 1, or a pair of them, is expected"),
    "negative stride": (GeometryError, "stride is .*, but an integer of at least 1, or a pair of them, is expected"),
    "negative padding": (GeometryError, "padding is .*, but an integer of at least 0, or a pair of them, is expected"),
    "zero dilation": (GeometryError, "dilation is .*, but an integer of at least 1, or a pair of them, is expected"),
    "wrong number of axes": (ShapeError, r"input of .* has shape .* dimensions, but 4 are expected: \(N, C, H, W\)"),
}


def refused(layer: type[nn.Layer], invalid: Invalid[Pooling], options: dict[str, Any]) -> None:
    error, message = REFUSALS[invalid.fault]
    with pytest.raises(error, match=f"^{message}") as caught:
        layer(invalid.geometry.kernel, **options)(torch.zeros(invalid.x_shape))  # type: ignore[call-arg]  # of a pooling
    assert type(caught.value) is error and "\n" not in str(caught.value)


@given(invalid=invalid_poolings())
def test_a_maximum_that_is_not_possible_is_refused_in_one_sentence(invalid: Invalid[Pooling]) -> None:
    refused(nn.MaxPool2d, invalid, invalid.geometry.options)


@given(invalid=invalid_poolings(dilation=False))
def test_a_mean_that_is_not_possible_is_refused_in_one_sentence(invalid: Invalid[Pooling]) -> None:
    refused(nn.AvgPool2d, invalid, mean_options(invalid.geometry))
