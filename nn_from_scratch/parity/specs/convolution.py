"""Convolutions and the affine map."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from nn_from_scratch.engine import layers
from nn_from_scratch.engine.convolutions import ALGORITHMS, convolution_algorithm
from nn_from_scratch.verify.catalogue import Case, Shape, Spec

_LETTERS = {"stride": "s", "padding": "p", "dilation": "d", "output_padding": "o", "groups": "g"}


def geometry_name(kernel: int | tuple[int, int], options: Mapping[str, Any], note: str = "") -> str:
    """The name of a kernel with these options: numbers get a letter, an option that is off or another one its name.

    `k2x4s2x3` is a kernel of 2 by 4 and a stride of 2 by 3; `k3_no_bias` is a kernel of 3 and `bias=False`. The note
    distinguishes cases of the same geometry.
    """

    def number(value: int | tuple[int, int]) -> str:
        return str(value) if isinstance(value, int) else "x".join(map(str, value))

    name = f"k{number(kernel)}"
    name += "".join(f"{letter}{number(options[option])}" for option, letter in _LETTERS.items() if option in options)
    for option, value in options.items():
        if option not in _LETTERS:
            name += f"_no_{option}" if value is False else f"_{option}" if value is True else f"_{option}{value}"
    return f"{name}_{note}" if note else name


def convolution(
    shape: Shape, channels: tuple[int, int], kernel: int | tuple[int, int], note: str = "", **options: Any
) -> Case:
    """A case of a convolution, named after its geometry."""
    return Case(geometry_name(kernel, options, note), (shape,), (*channels, kernel), options)


CONV2D_CASES = (
    convolution((2, 3, 12, 12), (3, 16), 4, stride=2, padding=1),  # the report's first
    convolution((2, 16, 8, 8), (16, 32), 4, stride=2),  # the report's second
    convolution((3, 2, 4, 5), (2, 3), 1),
    convolution((2, 2, 6, 5), (2, 3), 3),
    convolution((2, 2, 6, 5), (2, 3), 3, bias=False),
    convolution((2, 2, 7, 9), (2, 3), (2, 4), stride=(2, 3), padding=(1, 2), dilation=(3, 2)),
    convolution((2, 2, 8, 7), (2, 3), 3, "remainder", stride=4),
    convolution((2, 4, 6, 5), (4, 6), 3, groups=2, padding=1),
    convolution((2, 3, 6, 5), (3, 6), 3, "depthwise", groups=3, stride=2),
    convolution((1, 1, 3, 3), (1, 1), 3, "one_window"),
)

TRANSPOSE_CONV2D_CASES = (
    convolution((2, 32, 3, 3), (32, 16), 4, stride=2),  # the report's third
    convolution((2, 16, 4, 4), (16, 3), 4, stride=2, padding=1),  # the report's fourth
    convolution((3, 2, 4, 5), (2, 3), 1),
    convolution((2, 2, 4, 5), (2, 3), 3, bias=False),
    convolution((2, 2, 4, 3), (2, 3), (2, 4), stride=(2, 3), padding=(1, 2), dilation=(3, 2), output_padding=(1, 2)),
    convolution((2, 2, 3, 4), (2, 3), 3, output_padding=(2, 1), dilation=(3, 2)),  # above the stride
    convolution((2, 4, 3, 5), (4, 6), 3, groups=2, stride=2, output_padding=1),
    convolution((1, 1, 1, 1), (1, 1), 3, "one_pixel"),
)

LINEAR_CASES = (
    Case("batch", ((4, 3),), (3, 5)),
    Case("no_bias", ((4, 3),), (3, 5), {"bias": False}),
    Case("vector", ((3,),), (3, 2)),
    Case("many_axes", ((2, 3, 4),), (4, 2)),
)

# Every algorithm is compared with the reference, not only the one that "auto" takes.
EACH_ALGORITHM = {name: partial(convolution_algorithm, name) for name in ALGORITHMS}
GEOMETRY = {
    "kernel_size": "geometry.kernel",
    **{name: f"geometry.{name}" for name in ("stride", "padding", "dilation", "groups")},
}

SPECS = (
    Spec(layers.Conv2d, CONV2D_CASES, variants=EACH_ALGORITHM, twin=torch.nn.Conv2d, attributes=GEOMETRY),
    Spec(layers.Linear, LINEAR_CASES, twin=torch.nn.Linear),
    Spec(
        layers.TransposeConv2d,
        TRANSPOSE_CONV2D_CASES,
        variants=EACH_ALGORITHM,
        twin=torch.nn.ConvTranspose2d,
        attributes=GEOMETRY,
    ),
)
