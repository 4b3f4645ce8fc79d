"""Pooling: every small geometry against torch, ties, misuse."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError, GeometryError, ShapeError


def agree(layer: nn.Layer, reference: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Hold value and gradient against torch's; False where ours refuses the geometry, which torch must refuse too."""
    leaf = x.clone().requires_grad_()
    try:
        y = layer(x)
    except GeometryError as error:
        # Where a window holds padding alone, torch writes outside of its memory: it is not called there.
        if "with padding alone" not in str(error):
            with pytest.raises(RuntimeError):
                reference(leaf)
        return False
    expected = reference(leaf)
    g = torch.randn(y.shape, dtype=x.dtype)
    expected.backward(g)
    torch.testing.assert_close(y, expected.detach(), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(nn.backward(y, g), leaf.grad, rtol=1e-12, atol=1e-13)
    return True


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_every_small_geometry_is_torchs(ceil_mode: bool) -> None:
    ran = 0
    for n, kernel, stride, padding, dilation in product((1, 4, 7), (1, 2, 3), (1, 2, 4), (0, 1), (1, 2)):
        x = torch.randn(2, 1, n, 5, dtype=torch.float64)
        if 2 * padding <= dilation * (kernel - 1) + 1:
            options: dict[str, Any] = {
                "stride": stride,
                "padding": padding,
                "dilation": dilation,
                "ceil_mode": ceil_mode,
            }
            options["dilation"] = dilation
            maximum = nn.MaxPool2d(kernel, **options)
            ran += agree(maximum, lambda x, k=kernel, o=options: F.max_pool2d(x, k, **o), x)  # type: ignore[misc]  # defaults
        if dilation == 1 and 2 * padding <= kernel:
            for count_include_pad in (False, True):
                more: dict[str, Any] = {
                    "stride": stride,
                    "padding": padding,
                    "ceil_mode": ceil_mode,
                    "count_include_pad": count_include_pad,
                }
                mean = nn.AvgPool2d(kernel, **more)
                ran += agree(mean, lambda x, k=kernel, o=more: F.avg_pool2d(x, k, **o), x)  # type: ignore[misc]  # defaults
    assert ran > 100


def test_among_equal_entries_the_first_takes_the_cotangent() -> None:
    y = nn.MaxPool2d(2)(torch.ones(1, 1, 2, 2))
    assert torch.equal(nn.backward(y), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))  # type: ignore[arg-type]  # one input


def test_an_empty_batch_goes_through() -> None:
    for layer in (nn.MaxPool2d(2), nn.AvgPool2d(2, padding=1)):
        found = nn.backward(layer(torch.zeros(0, 3, 4, 4)))
        assert isinstance(found, Tensor) and found.shape == (0, 3, 4, 4)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.MaxPool2d(0), GeometryError, "kernel_size is 0, but an integer of at least 1"),
        (lambda: nn.MaxPool2d(2, stride=0), GeometryError, "stride is 0, but an integer of at least 1"),
        (lambda: nn.MaxPool2d(2, dilation=0), GeometryError, "dilation is 0, but an integer of at least 1"),
        (lambda: nn.AvgPool2d(2, padding=-1), GeometryError, "padding is -1, but an integer of at least 0"),
        (lambda: nn.MaxPool2d(2, padding=2), GeometryError, r"padding is \(2, 2\), but it must be at most half of the"),
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
