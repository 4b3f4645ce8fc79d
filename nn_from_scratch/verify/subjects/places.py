"""A parameter's place in a layer object, and its gradient's; looked up each time, because layers make new arrays."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["Place", "attribute_at", "is_parameter", "place_at", "substitute"]


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


_CLOSED = (
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    type(None),
    type,
    types.ModuleType,
    types.FunctionType,
    Tensor,
    np.ndarray,
)


def substitute(owner: object, replacements: dict[int, object]) -> int:
    """Replace objects by identity in the attributes, lists, tuples and dictionaries that `owner` reaches.

    Args:
        owner: the object to change, in place.
        replacements: new objects by the `id` of the old ones, which the caller keeps alive.

    Returns:
        How many references were replaced.
    """
    seen: set[int] = set()
    replaced = 0

    def changed(value: Any) -> Any:
        nonlocal replaced
        if id(value) in replacements:
            replaced += 1
            return replacements[id(value)]
        if isinstance(value, tuple):
            items = [changed(item) for item in value]
            if any(new is not old for new, old in zip(items, value, strict=True)):
                return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
            return value
        visit(value)
        return value

    def visit(value: Any) -> None:
        if id(value) in seen or isinstance(value, _CLOSED):
            return
        seen.add(id(value))
        if isinstance(value, list):
            value[:] = [changed(item) for item in value]
        elif isinstance(value, dict):
            for key in list(value):
                value[key] = changed(value[key])
        elif hasattr(value, "__dict__"):
            attributes = vars(value)
            for key in list(attributes):
                new = changed(attributes[key])
                if new is not attributes[key]:
                    attributes[key] = new

    visit(owner)
    return replaced
