"""A parameter's place in a layer object, and its gradient's; looked up each time, because layers make new arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["Place", "attribute_at", "is_parameter", "place_at"]


@dataclass(frozen=True)
class Place:
    """One parameter of a layer.

    Attributes:
        name: What the verifier calls it.
        value: Looks the parameter up in a layer.
        gradient: Looks its gradient up in a layer; None while there is none.
        set_gradient: Puts another object in the gradient's place; raises where there is no such place.
    """

    name: str
    value: Callable[[Any], Any]
    gradient: Callable[[Any], Any]
    set_gradient: Callable[[Any, Any], None]


def is_parameter(value: object) -> bool:
    """Whether an object is a real floating-point tensor or array."""
    if isinstance(value, Tensor):
        return value.is_floating_point()
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def attribute_at(owner: Any, path: str) -> Any:
    """What a dotted path of attributes, keys and positions leads to; raises as these do where it leads nowhere."""
    for part in path.split("."):
        if isinstance(owner, Mapping):
            owner = owner[part]
        elif isinstance(owner, list | tuple):
            owner = owner[int(part)]
        else:
            owner = getattr(owner, part)
    return owner


def place_at(name: str, value: str, gradient: str) -> Place:
    """The place whose value and gradient are at these dotted paths."""

    def read(layer: Any) -> Any:
        try:
            return attribute_at(layer, gradient)
        except (AttributeError, KeyError, IndexError):
            return None

    def write(layer: Any, new: Any) -> None:
        holder, _, last = gradient.rpartition(".")
        owner = attribute_at(layer, holder) if holder else layer
        if isinstance(owner, list):
            owner[int(last)] = new
        elif isinstance(owner, Mapping):
            owner[last] = new  # type: ignore[index]
        else:
            setattr(owner, last, new)

    return Place(name, lambda layer: attribute_at(layer, value), read, write)
