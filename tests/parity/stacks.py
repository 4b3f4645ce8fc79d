"""Stacks of layers that fit on one another, drawn at random, with an input for them.

Every layer that has a twin in torch.nn is drawn, from the cases of its entry; those whose arguments must fit the shape
have a function here that draws them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.errors import ShapeError
from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.verify.catalogue import Shape, Spec
from nn_from_scratch.verify.catalogue.building import build

Draw = Callable[..., Any]  # of a composite strategy or of st.data()

# Larger values than these are pooled before anything else.
LARGEST_SIDE, LARGEST_ENTRIES = 12, 1500


@dataclass(frozen=True, eq=False)
class Stack:
    model: nn.Sequential
    x: Tensor
    target: Tensor

    def __repr__(self) -> str:  # what hypothesis shows of a counterexample
        return f"{self.model!r} on {tuple(self.x.shape)}"


def conv(draw: Draw, shape: Shape) -> nn.Layer:
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if shape[1] % g == 0]))
    padding = draw(st.integers(0, 2))
    dilation = draw(st.integers(1, 2))
    fits = [k for k in (1, 2, 3, 4) if (k - 1) * dilation < min(shape[2:]) + 2 * padding]
    return nn.Conv2d(
        shape[1],
        groups * draw(st.integers(1, 3)),
        draw(st.sampled_from(fits)),
        stride=draw(st.integers(1, 3)),
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
    )


def transpose(draw: Draw, shape: Shape) -> nn.Layer:
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if shape[1] % g == 0]))
    stride, kernel = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    # The output keeps at least one row: (H - 1) s + k - 2 p + o >= 1.
    padding = draw(st.integers(0, min(2, ((min(shape[2:]) - 1) * stride + kernel - 1) // 2)))
    return nn.TransposeConv2d(
        shape[1],
        groups * draw(st.integers(1, 3)),
        kernel,
        stride=stride,
        padding=padding,
        output_padding=draw(st.integers(0, stride - 1)),
        groups=groups,
        bias=draw(st.booleans()),
    )


def window(draw: Draw, shape: Shape) -> dict[str, Any]:
    kernel = draw(st.integers(1, min(3, *shape[2:])))
    return {
        "kernel_size": kernel,
        "stride": draw(st.integers(1, 3)),
        "padding": draw(st.integers(0, kernel // 2)),
        "ceil_mode": draw(st.booleans()),
    }


def upsample(draw: Draw, shape: Shape) -> nn.Layer:
    mode = draw(st.sampled_from(["nearest", "bilinear"]))
    size = (draw(st.integers(1, LARGEST_SIDE)), draw(st.integers(1, LARGEST_SIDE)))
    corners = draw(st.booleans()) if mode == "bilinear" else None
    return nn.Upsample(size, mode=mode, align_corners=corners)


# A single value less its mean is zero, and its normalized value a rounding error by the root of eps: so at least two.
def normalized(draw: Draw, shape: Shape) -> nn.Layer:
    starts = [start for start in range(1, len(shape)) if prod(shape[start:]) > 1]
    return nn.LayerNorm(shape[draw(st.sampled_from(starts)) :]) if starts else nn.Tanh()


def grouped(draw: Draw, shape: Shape) -> nn.Layer:
    channels = shape[1] if len(shape) > 1 else 0
    groups = [g for g in range(1, channels + 1) if channels % g == 0 and prod(shape[1:]) > g]
    return nn.GroupNorm(draw(st.sampled_from(groups)), shape[1]) if groups else nn.Tanh()


def over_batch(draw: Draw, shape: Shape) -> nn.Layer:
    return nn.BatchNorm2d(shape[1]).train(prod(shape) > shape[1])


FITTING: dict[type[nn.Layer], Callable[[Draw, Shape], nn.Layer]] = {
    nn.AvgPool2d: lambda draw, shape: nn.AvgPool2d(**window(draw, shape)),
    nn.BatchNorm2d: over_batch,
    nn.Conv2d: conv,
    nn.GroupNorm: grouped,
    nn.LayerNorm: normalized,
    nn.Linear: lambda draw, shape: nn.Linear(shape[-1], draw(st.integers(1, 6)), bias=draw(st.booleans())),
    nn.MaxPool2d: lambda draw, shape: nn.MaxPool2d(**window(draw, shape)),
    nn.TransposeConv2d: transpose,
    nn.Upsample: upsample,
}
IMAGES_ONLY = FITTING.keys() - {nn.GroupNorm, nn.LayerNorm, nn.Linear}
STACKABLE = tuple(spec for spec in LAYERS if spec.twin is not None)


def layer_for(draw: Draw, x: Tensor, spec: Spec) -> nn.Layer | None:
    """A layer for this input, drawn from the cases that fit it; None if none does."""
    if spec.subject in FITTING:
        return FITTING[spec.subject](draw, tuple(x.shape))
    fitting = []
    for case in spec.cases:
        layer = build(spec, case, dtype=x.dtype)
        layer.train(case.training and spec.repeatable is None)  # torch draws otherwise
        try:
            with nn.no_records():
                layer(x)
        except ShapeError:
            continue
        fitting.append(layer)
    return draw(st.sampled_from(fitting)) if fitting else None


@st.composite
def stacks(draw: Draw, *, dtype: torch.dtype = torch.float64, most: int = 6, kinks: bool = True) -> Stack:
    """A model of up to `most` layers, its parameters drawn, with an input and a target; without kinks if so asked."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 8), st.integers(2, 8)))
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    layers: list[nn.Module] = []
    y = x
    for _ in range(draw(st.integers(1, most))):
        menu = [spec for spec in STACKABLE if y.dim() == 4 or spec.subject not in IMAGES_ONLY]
        spec = draw(st.sampled_from([spec for spec in menu if kinks or spec.kinks is None]))
        too_large = y.dim() == 4 and (max(y.shape[2:]) > LARGEST_SIDE or y.numel() > LARGEST_ENTRIES)
        layer = nn.AvgPool2d(min(4, *y.shape[2:])) if too_large else layer_for(draw, y, spec)
        if layer is None:
            continue
        layer.to(dtype=dtype)
        for parameter in layer.parameters().values():
            parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64) - 0.5)
        layers.append(layer)
        with nn.no_records():
            y = layer(y)
    return Stack(nn.Sequential(*layers), x, torch.randn(y.shape, generator=generator, dtype=torch.float64).to(dtype))
