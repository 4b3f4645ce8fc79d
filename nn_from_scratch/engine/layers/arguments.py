"""The checks of constructor arguments that several families share."""

from __future__ import annotations

import math

from torch import Tensor

from nn_from_scratch.engine.module import Module
from nn_from_scratch.errors import ArgumentError, ShapeError


def number(value: object) -> bool:
    """Whether it is a finite real number; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def finite(value: float, *, name: str) -> float:
    """The value as a float, if it is a finite number.

    Raises:
        ArgumentError: it is not.
    """
    if not number(value):
        raise ArgumentError(f"{name} is {value!r}, but a finite number is expected")
    return float(value)


def fraction(value: float, *, name: str) -> float:
    """The value as a float, if it lies in [0, 1].

    Raises:
        ArgumentError: it does not.
    """
    if not number(value) or not 0 <= value <= 1:
        raise ArgumentError(f"{name} is {value!r}, but a number from 0 to 1 is expected")
    return float(value)


def not_negative(value: float, *, name: str) -> float:
    """The value as a float, if it is a finite number of at least 0.

    Raises:
        ArgumentError: it is not.
    """
    if not number(value) or value < 0:
        raise ArgumentError(f"{name} is {value!r}, but a finite number of at least 0 is expected")
    return float(value)


def integer(value: int, *, name: str) -> int:
    """The value, if it is an integer.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ArgumentError(f"{name} is {value!r}, but an integer is expected")
    return value


def axis(dim: int, x: Tensor, module: Module) -> int:
    """The axis of `x` that `dim` means, counted from the front.

    Raises:
        ShapeError: there is no such axis.
    """
    if not -x.dim() <= dim < x.dim():
        raise ShapeError(f"input of {module.short_name()} has shape {tuple(x.shape)}, which has no axis {dim}")
    return dim % x.dim()
