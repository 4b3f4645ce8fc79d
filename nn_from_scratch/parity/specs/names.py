"""Short names of geometries: `k4s2p1` is a kernel of 4, a stride of 2 and a padding of 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nn_from_scratch.verify.catalogue import Case, Shape

_LETTERS = {"stride": "s", "padding": "p", "dilation": "d", "output_padding": "o", "groups": "g"}


def geometry_name(kernel: int | tuple[int, int], options: Mapping[str, Any]) -> str:
    """The name of a kernel with these options: numbers get a letter, an option that is off or another one its name.

    `k2x4s2x3` is a kernel of 2 by 4 and a stride of 2 by 3; `k3_no_bias` is a kernel of 3 and `bias=False`.
    """
    name = f"k{_number(kernel)}"
    name += "".join(f"{letter}{_number(options[option])}" for option, letter in _LETTERS.items() if option in options)
    for option, value in options.items():
        if option not in _LETTERS:
            name += f"_no_{option}" if value is False else f"_{option}" if value is True else f"_{option}{value}"
    return name


def window(shape: Shape, kernel: int | tuple[int, int], note: str = "", **options: Any) -> Case:
    """A case of pooling, named after its geometry; the note tells it from others of the same."""
    return Case("_".join(filter(None, (geometry_name(kernel, options), note))), (shape,), (kernel,), options)


def convolution(
    shape: Shape, channels: tuple[int, int], kernel: int | tuple[int, int], note: str = "", **options: Any
) -> Case:
    """A case of a convolution, named after its geometry; the note tells it from others of the same."""
    name = "_".join(filter(None, (geometry_name(kernel, options), note)))
    return Case(name, (shape,), (*channels, kernel), options)


def _number(value: int | tuple[int, int]) -> str:
    return str(value) if isinstance(value, int) else "x".join(map(str, value))
