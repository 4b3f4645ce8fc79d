"""Pooling: ties, misuse, options. `test_pooling_properties.py` has every geometry."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError, GeometryError, ShapeError


def test_among_equal_entries_the_first_takes_the_cotangent() -> None:
    y = nn.MaxPool2d(2)(torch.ones(1, 1, 2, 2))
    assert torch.equal(nn.backward(y), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))  # type: ignore[arg-type]  # one input


def test_an_empty_batch_goes_through() -> None:
    for layer in (nn.MaxPool2d(2), nn.AvgPool2d(2, padding=1)):
        found = nn.backward(layer(torch.zeros(0, 3, 4, 4)))
        assert isinstance(found, Tensor) and found.shape == (0, 3, 4, 4)


def test_an_image_without_channels_goes_through() -> None:
    layer = nn.AvgPool2d(2, padding=1)
    found = nn.backward(layer(torch.zeros(2, 0, 4, 4)))
    assert isinstance(found, Tensor) and found.shape == (2, 0, 4, 4)


@pytest.mark.parametrize("size", [(7, 9), (9, 7), (8, 8), (3, 10)])
def test_the_gradient_of_a_mean_keeps_no_more_memory_than_the_padded_input(size: tuple[int, int]) -> None:
    layer = nn.AvgPool2d(3, stride=2, padding=1)
    found = nn.backward(layer(torch.zeros(2, 3, *size)))
    assert isinstance(found, Tensor)
    assert found.untyped_storage().nbytes() <= 4 * 2 * 3 * (size[0] + 2) * (size[1] + 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.MaxPool2d(0), GeometryError, "kernel_size is 0, but an integer of at least 1"),
        (lambda: nn.MaxPool2d(2, stride=0), GeometryError, "stride is 0, but an integer of at least 1"),
        (lambda: nn.MaxPool2d(2, dilation=0), GeometryError, "dilation is 0, but an integer of at least 1"),
        (lambda: nn.AvgPool2d(2, padding=-1), GeometryError, "padding is -1, but an integer of at least 0"),
        (lambda: nn.MaxPool2d(2, padding=2), GeometryError, r"padding is \(2, 2\), but it must be at most half of the"),
        (
            lambda: nn.MaxPool2d(3, padding=2, dilation=2),
            GeometryError,
            r"padding is \(2, 2\), but it must be at most half of the kernel \(3, 3\)",
        ),
        (lambda: nn.AvgPool2d(2, divisor_override=0), ArgumentError, "divisor_override is 0, but an integer other"),
        (
            lambda: nn.MaxPool2d(2, padding=1, dilation=2)(torch.zeros(1, 1, 1, 5)),
            GeometryError,
            r"input of size \(1, 5\) leaves a window of MaxPool2d\(2, padding=1, dilation=2\) with padding alone",
        ),
        (lambda: nn.AvgPool2d(3)(torch.zeros(1, 1, 2, 5)), GeometryError, r"input of size \(2, 5\) with padding"),
        (lambda: nn.MaxPool2d(2)(torch.zeros(1, 4, 4)), ShapeError, r"but 4 are expected: \(N, C, H, W\)"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_options_are_shown() -> None:
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(2)"
    assert repr(nn.AvgPool2d((2, 3), stride=1, padding=1, count_include_pad=False)) == (
        "AvgPool2d((2, 3), stride=1, padding=1, count_include_pad=False)"
    )
