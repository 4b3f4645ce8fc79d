"""Pooling."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.engine import layers
from nn_from_scratch.engine.convolutions import spatial
from nn_from_scratch.parity.specs.convolution import geometry_name
from nn_from_scratch.verify.catalogue import Case, Shape, Spec


def window(shape: Shape, kernel: int | tuple[int, int], note: str = "", **options: Any) -> Case:
    """A case of pooling, named after its geometry."""
    return Case(geometry_name(kernel, options, note), (shape,), (kernel,), options)


WINDOW_CASES = (
    window((2, 3, 4, 6), 2),
    window((2, 2, 6, 7), 3, stride=2, padding=1),
    window((2, 2, 7, 9), (2, 4), stride=(3, 2), padding=(1, 2)),
    window((2, 2, 6, 7), 3, stride=2, ceil_mode=True),
    window((2, 2, 5, 6), (2, 3), stride=(3, 4), padding=(1, 1), ceil_mode=True),
    window((2, 2, 8, 7), 3, "remainder", stride=4),
    window((1, 1, 3, 3), 3, "one_window"),
)


def _from_tie(layer: layers.MaxPool2d, x: Tensor) -> Tensor:
    """Half of the distance between the two largest entries of each window."""
    z = x
    for dim, axis in ((2, 0), (3, 1)):
        extent, s, p, d = layer.extent[axis], layer.stride[axis], layer.padding[axis], layer.dilation[axis]
        reached = (layer.output_size(spatial(x))[axis] - 1) * s + extent
        sides = (p, max(reached - p - x.shape[dim], 0))
        z = F.pad(z.movedim(dim, -1), sides, value=-torch.inf).unfold(-1, extent, s)[..., ::d].movedim(-2, dim)
    largest = z.flatten(4).sort(descending=True).values  # (N, C, H', W', K)
    if largest.shape[-1] == 1:
        return torch.full_like(largest[..., 0], torch.inf)  # one entry has none to tie with
    return (largest[..., 0] - largest[..., 1]) / 2


SPECS = (
    Spec(
        layers.AvgPool2d,
        (
            *WINDOW_CASES,
            window((2, 2, 5, 6), 3, stride=2, padding=1, count_include_pad=False),
            window((2, 2, 5, 6), (2, 3), stride=(3, 4), padding=(1, 1), ceil_mode=True, count_include_pad=False),
            window((2, 2, 5, 6), 3, padding=1, divisor_override=5),
        ),
        twin=torch.nn.AvgPool2d,
        attributes={"kernel_size": "kernel"},
    ),
    Spec(
        layers.MaxPool2d,
        (
            *WINDOW_CASES,
            window((2, 2, 8, 9), (2, 3), stride=2, padding=1, dilation=(3, 2)),
            window((2, 2, 8, 8), 2, stride=3, dilation=3, ceil_mode=True),
        ),
        kinks=_from_tie,
        twin=torch.nn.MaxPool2d,
        attributes={"kernel_size": "kernel"},
    ),
)
