"""Resampling: many sizes and factors against torch, misuse."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError, GeometryError, ShapeError

MODES = [("nearest", None), ("bilinear", None), ("bilinear", False), ("bilinear", True)]


def agree(layer: nn.Upsample, x: Tensor) -> None:
    leaf = x.clone().requires_grad_()
    expected = F.interpolate(leaf, layer.size, layer.scale_factor, layer.mode, layer.align_corners)
    y = layer(x)
    g = torch.randn(y.shape, dtype=x.dtype)
    expected.backward(g)
    torch.testing.assert_close(y, expected.detach(), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(nn.backward(y, g), leaf.grad, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_every_small_size_is_torchs(mode: str, align_corners: bool | None) -> None:
    for n, m in product(range(1, 8), (1, 2, 3, 5, 6, 9, 10, 14, 21)):
        x = torch.randn(1, 2, n, 3, dtype=torch.float64)
        agree(nn.Upsample((m, n), mode=mode, align_corners=align_corners), x)


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_factors_that_leave_a_remainder_are_torchs(mode: str, align_corners: bool | None) -> None:
    for n, factor in product((1, 3, 5, 8), (1, 1.2, 1.5, 2, 2.3, 3, 10 / 3)):
        x = torch.randn(1, 2, n, 3, dtype=torch.float64)
        agree(nn.Upsample(scale_factor=(factor, 0.7), mode=mode, align_corners=align_corners), x)


def test_a_shuffle_undoes_an_unshuffle() -> None:
    x = torch.randn(2, 3, 6, 9)
    assert torch.equal(nn.PixelShuffle(3)(F.pixel_unshuffle(x, 3)), x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Upsample(), ArgumentError, "size is None and scale_factor is None, but exactly one of them"),
        (lambda: nn.Upsample(2, scale_factor=2), ArgumentError, "size is 2 and scale_factor is 2, but exactly one"),
        (lambda: nn.Upsample(2, mode="bicubic"), ArgumentError, "mode is 'bicubic', but 'nearest' or 'bilinear' is"),
        (lambda: nn.Upsample(2, align_corners=True), ArgumentError, "align_corners is True, but it belongs to mode="),
        (lambda: nn.Upsample(0), GeometryError, "size is 0, but an integer of at least 1"),
        (lambda: nn.Upsample(scale_factor=-1), ArgumentError, "scale_factor is -1, but a positive number, or a pair"),
        (lambda: nn.PixelShuffle(0), ArgumentError, "upscale_factor is 0, but a positive integer is expected"),
        (
            lambda: nn.Upsample(scale_factor=0.1)(torch.ones(1, 1, 4, 4)),
            GeometryError,
            r"input of size \(4, 4\) would give an output of size \(0, 0\) in Upsample\(scale_factor=0.1\)",
        ),
        (lambda: nn.Upsample(2)(torch.ones(1, 4, 4)), ShapeError, r"but 4 are expected: \(N, C, H, W\)"),
        (lambda: nn.Upsample(2)(torch.ones(1, 1, 0, 4)), ShapeError, "but there must be pixels"),
        (lambda: nn.PixelShuffle(2)(torch.ones(1, 6, 2, 2)), ShapeError, "with 6 channels, but a multiple of 4"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_options_are_shown() -> None:
    assert repr(nn.Upsample(3)) == "Upsample(size=3)"
    assert repr(nn.Upsample(scale_factor=(2, 3), mode="bilinear", align_corners=True)) == (
        "Upsample(scale_factor=(2.0, 3.0), mode='bilinear', align_corners=True)"
    )
    assert repr(nn.PixelShuffle(2)) == "PixelShuffle(2)"
