"""Putting another array in the place of one that an object holds, wherever it holds it."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["substitute"]

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
