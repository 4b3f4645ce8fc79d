"""The checks of arguments that layers, losses and optimizers share. The sizes of parameters are in `parameters.py`."""

from __future__ import annotations

import math

from torch import Tensor

from nn_from_scratch.engine.module import Module
from nn_from_scratch.errors import ArgumentError, ShapeError


def number(value: object) -> bool:
    """Whether the value is a finite real number; a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def real(
    value: float, *, name: str, least: float = -math.inf, most: float = math.inf, below: float = math.inf
) -> float:
    """The value as a float, if it is a finite number in [least, most] and less than `below`.

    Raises:
        ArgumentError: it is not.
    """
    if number(value) and least <= value <= most and value < below:
        return float(value)
    if most < math.inf:
        expected = f"a number from {least:g} to {most:g}"
    else:
        expected = "a finite number" + (f" of at least {least:g}" if least > -math.inf else "")
        expected += f" and below {below:g}" if below < math.inf else ""
    raise ArgumentError(f"{name} is {value!r}, but {expected} is expected")


def integer(value: int, *, name: str, least: int | None = None) -> int:
    """The value, if it is an integer of at least `least`.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise ArgumentError(f"{name} is {value!r}, but an integer{bound} is expected")
    return value


def axis(dim: int, x: Tensor, module: Module) -> int:
    """The axis of `x` that `dim` means, counted from the front.

    Raises:
        ShapeError: there is no such axis.
    """
    if not -x.dim() <= dim < x.dim():
        raise ShapeError(f"input of {module.short_name()} has shape {tuple(x.shape)}, which has no axis {dim}")
    return dim % x.dim()
