"""The network of the report, and how an architecture is written down."""

from __future__ import annotations

import re

import torch

from nn_from_scratch.engine.layers import Conv2d, ReLU, Sigmoid, TransposeConv2d
from nn_from_scratch.engine.module import Module, Sequential

__all__ = ["LEAST_SIZE", "REACH", "SIZE_STEP", "architecture", "report_model"]

#: Heights and widths that the report's model gives back unchanged are multiples of this ...
SIZE_STEP = 4
#: ... and at least this.
LEAST_SIZE = 8
#: No entry of its output depends on an input pixel that is further away, in rows or columns.
REACH = 9


def report_model(
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Sequential:
    """Make the report's denoising network (Listing 3), newly initialised.

    Input and output (N, 3, H, W), values in [0, 1], where H and W are multiples of 4 and at least 8.

    Args:
        generator: source of the initial values; torch's global one by default.
        dtype, device: of the parameters; torch's defaults by default.

    Raises:
        DtypeError: dtype is not a floating-point one.
    """

    def convolution(c: int, channels: int, *, padding: int = 0) -> Conv2d:
        return Conv2d(c, channels, 4, stride=2, padding=padding, generator=generator, dtype=dtype, device=device)

    def transpose(c: int, channels: int, *, padding: int = 0) -> TransposeConv2d:
        return TransposeConv2d(
            c, channels, 4, stride=2, padding=padding, generator=generator, dtype=dtype, device=device
        )

    return Sequential(
        convolution(3, 16, padding=1),
        ReLU(),
        convolution(16, 32),
        ReLU(),
        transpose(32, 16),
        ReLU(),
        transpose(16, 3, padding=1),
        Sigmoid(),
    )


def architecture(model: Module) -> str:
    """The architecture on one line, as the layers write themselves."""
    return re.sub(r"\s+", " ", repr(model))
