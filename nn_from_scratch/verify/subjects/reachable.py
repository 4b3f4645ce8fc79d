"""What an object holds: the tensors and arrays that its attributes, lists, tuples and dictionaries lead to."""

from __future__ import annotations

import copy
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

Path = str | Sequence[Any]
"""Attributes, keys, positions and calls (`"params()"`), one after the other, or as a dotted string."""

_CLOSED = (str, bytes, int, float, complex, type(None), type, types.ModuleType, types.FunctionType, types.MethodType)


def parts_of(path: Path) -> Sequence[Any]:
    """The steps of a path."""
    return path.split(".") if isinstance(path, str) else path


def attribute_at(owner: Any, path: Path) -> Any:
    """What a path leads to; raises as its steps do where it leads nowhere."""
    for part in parts_of(path):
        if isinstance(owner, Mapping):
            owner = owner[part]
        elif isinstance(owner, list | tuple):
            owner = owner[int(part)]
        elif str(part).endswith("()"):
            called = getattr(owner, part[:-2])()
            owner = called if isinstance(called, Mapping | list | tuple) else list(called)
        else:
            owner = getattr(owner, part)
    return owner


def found_at(owner: Any, path: Path) -> Any:
    """What a path leads to; None where it leads nowhere."""
    try:
        return attribute_at(owner, path)
    except (AttributeError, LookupError, ValueError, TypeError):
        return None


def is_parameter(value: object) -> bool:
    """Whether an object is a real floating-point tensor or array."""
    if isinstance(value, Tensor):
        return value.is_floating_point()
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def held_by(value: Any) -> Iterator[tuple[Any, Any]]:
    """What an object holds directly, with the last step of the path to it."""
    if isinstance(value, _CLOSED):
        return
    if isinstance(value, dict):
        yield from value.items()
        return
    if isinstance(value, list | tuple):
        yield from enumerate(value)
        return
    if isinstance(value, Tensor) and value.is_leaf and value.grad is not None:
        yield "grad", value.grad
    yield from getattr(value, "__dict__", {}).items()
    for cls in type(value).__mro__ if not isinstance(value, Tensor | np.ndarray) else ():
        slots = cls.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def walk(owner: object) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Everything that an object reaches, by the shortest path to it first; the object itself first of all.

    Each is given once, but tensors and arrays by every path of those.
    """
    seen: set[int] = set()
    queue: deque[tuple[tuple[Any, ...], Any]] = deque([((), owner)])
    while queue:
        path, value = queue.popleft()
        if isinstance(value, _CLOSED):
            continue
        if id(value) in seen:
            if isinstance(value, Tensor | np.ndarray):
                yield path, value
            continue
        seen.add(id(value))
        yield path, value
        queue.extend(((*path, step), inner) for step, inner in list(held_by(value)))


def held_tensors(owner: object) -> dict[tuple[Any, ...], Any]:
    """The real floating-point tensors and arrays that an object reaches, by their paths, the shortest first."""
    return {path: value for path, value in walk(owner) if path and is_parameter(value)}


def duplicate(owner: Any) -> Any:
    """A deep copy, also of objects whose `__getattr__` looks into an attribute that a new object lacks.

    Such a class ends `copy.deepcopy` in an endless recursion; its objects are made without a call, and get copies of
    the attributes.
    """
    try:
        return copy.deepcopy(owner)
    except RecursionError:
        made: list[tuple[Any, Any]] = []
        memo: dict[int, Any] = {}
        for _, value in walk(owner):
            if hasattr(type(value), "__getattr__") and not hasattr(type(value), "__deepcopy__"):
                made.append((value, object.__new__(type(value))))
                memo[id(value)] = made[-1][1]
        for value, twin in made:
            vars(twin).update(copy.deepcopy(vars(value), memo))
        return memo[id(owner)] if id(owner) in memo else copy.deepcopy(owner, memo)


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
        else:
            for name, held in list(held_by(value)):
                new = changed(held)
                if new is not held:
                    object.__setattr__(value, name, new)

    visit(owner)
    return replaced
