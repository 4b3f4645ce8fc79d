"""Where layers written in courses keep their parameters and the gradients of these."""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.subjects.structure import describe

Path = str | Sequence[Any]
"""Attributes, keys, positions and calls (`"params()"`), one after the other, or as a dotted string."""

# What stands before or after the name of a parameter in the name of its gradient.
_PREFIXES = ("d", "d_", "grad_", "grad", "g", "gradient_", "dL_d", "dLd", "dloss_d", "delta_")
_SUFFIXES = ("_grad", "grad", "_gradient", "_delta")
# How an object that is a parameter calls its value and its gradient.
_VALUES = ("value", "data", "val", "values", "weight")
_GRADIENTS = ("grad", "gradient", "g", "dvalue")


def _gradient_names(name: object) -> list[str]:
    return [f"{prefix}{name}" for prefix in _PREFIXES] + [f"{name}{suffix}" for suffix in _SUFFIXES]


def attribute_at(owner: Any, path: Path) -> Any:
    """What a path leads to; raises as its steps do where it leads nowhere."""
    for part in _parts(path):
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


@dataclass(frozen=True)
class Place:
    """One parameter of a layer. It is looked up each time, because many layers make new arrays in every backward.

    Attributes:
        name: What the verifier calls it.
    """

    name: str
    value_path: Path
    gradient_path: Path

    def value(self, layer: Any) -> Any:
        """The parameter."""
        return attribute_at(layer, self.value_path)

    def gradient(self, layer: Any) -> Any:
        """Its gradient; None before there is one."""
        try:
            return attribute_at(layer, self.gradient_path)
        except (AttributeError, LookupError):
            return None

    def set_gradient(self, layer: Any, new: Any) -> None:
        """Put another object in the gradient's place, or its entries where the place is in a tuple."""
        *path, last = _parts(self.gradient_path)
        owner = attribute_at(layer, path)
        if isinstance(owner, tuple):
            owner[int(last)][...] = new
        elif isinstance(owner, list):
            owner[int(last)] = new
        elif isinstance(owner, Mapping):
            owner[last] = new  # type: ignore[index]
        else:
            setattr(owner, last, new)

    def within(self, path: str) -> Place:
        """The same place seen from an object that has the layer at this path."""
        paths = ((*_parts(path), *_parts(own)) for own in (self.value_path, self.gradient_path))
        return Place(f"{path}.{self.name}", *paths)


def _parts(path: Path) -> Sequence[Any]:
    return path.split(".") if isinstance(path, str) else path


def is_parameter(value: object) -> bool:
    """Whether an object is a real floating-point tensor or array."""
    if isinstance(value, Tensor):
        return value.is_floating_point()
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def mapped_parameters(layer: object, mapping: Mapping[str, str]) -> list[Place]:
    """The parameters that a mapping names: the dotted path of each to that of its gradient.

    Raises:
        SubjectError: a path leads to no floating-point tensor or array.
    """
    places = []
    for value, gradient in mapping.items():
        try:
            found = attribute_at(layer, value)
        except (AttributeError, KeyError, IndexError, ValueError):
            found = None
        if not is_parameter(found):
            raise SubjectError(
                f"mapping names the parameter {value!r}, but there {type(layer).__name__} has {describe(found)}; "
                "a floating-point tensor or array is expected"
            )
        places.append(Place(value, value, gradient))
    return places


def held_objects(layer: object) -> dict[str, dict[str, object]]:
    """The attributes of a layer under the path `""`, and those of the layers that it holds under theirs."""
    attributes = dict(vars(layer)) if hasattr(layer, "__dict__") else {}
    found = {"": attributes}
    for name, value in attributes.items():
        for path, inner in _inner_layers(name, value):
            for deeper, held in held_objects(inner).items():
                found[f"{path}.{deeper}" if deeper else path] = held
    return found


def find_parameters(layer: object, before: Mapping[str, Mapping[str, object]], *, path: str = "") -> list[Place]:
    """The parameters of a layer whose backward has run once, by the common conventions.

    In this order, the first that finds something: `params`/`grads` dictionaries or lists; `param()`,
    `params()` or `parameters()` giving (value, gradient) pairs or parameter objects; attributes with a
    gradient beside them (`W` and `dW`) or on them (`weight.grad`, `weight.gradient`); a `gradient` or
    `gradients` dictionary on the layer. Also the parameters of layers that it holds in its attributes or in
    lists there.

    Args:
        layer: the layer, after a forward and a backward.
        before: `held_objects` before these. An attribute that has another object since, such as a remembered
            input, is not a parameter.
        path: where the layer is, within the one that `before` is of.
    """
    for find in (_from_collections, _from_method):
        places = list(find(layer))
        if places:
            return places
    attributes = vars(layer) if hasattr(layer, "__dict__") else {}
    steady = [name for name, value in before.get(path, {}).items() if attributes.get(name) is value]
    places = list(_from_attributes(layer, steady)) or list(_from_gradient_dictionary(layer, steady))
    for name in steady:
        for inner_path, inner in _inner_layers(name, attributes[name]):
            whole = f"{path}.{inner_path}" if path else inner_path
            places += [place.within(inner_path) for place in find_parameters(inner, before, path=whole)]
    return places


def _inner_layers(name: str, held: object) -> Iterator[tuple[str, object]]:
    listed = enumerate(held) if isinstance(held, list | tuple) else [(None, held)]
    for place, item in listed:
        if callable(getattr(item, "backward", None)) and not isinstance(item, Tensor) and hasattr(item, "__dict__"):
            yield (name if place is None else f"{name}.{place}"), item


def _from_collections(layer: object) -> Iterator[Place]:
    for values_name, gradients_name in (("params", "grads"), ("parameters", "gradients"), ("params", "gradients")):
        values, gradients = getattr(layer, values_name, None), getattr(layer, gradients_name, None)
        if isinstance(values, Mapping) and isinstance(gradients, Mapping):
            for key, value in values.items():
                if not is_parameter(value):
                    continue
                match = next((name for name in (str(key), *_gradient_names(key)) if name in gradients), None)
                if match is not None:
                    yield Place(str(key), (values_name, key), (gradients_name, match))
        elif isinstance(values, list | tuple) and isinstance(gradients, list | tuple) and len(values) == len(gradients):
            for place, value in enumerate(values):
                if is_parameter(value):
                    name = _attribute_name(layer, value) or f"{values_name}.{place}"
                    yield Place(name, (values_name, place), (gradients_name, place))


def _attribute_name(layer: object, value: object) -> str | None:
    return next((name for name, held in vars(layer).items() if held is value), None)


def _from_method(layer: object) -> Iterator[Place]:
    for method in ("param", "params", "parameters"):
        bound = getattr(layer, method, None)
        if not callable(bound):
            continue
        try:
            listed = bound()
        except TypeError:  # it wants arguments, so it is something else
            continue
        named = isinstance(listed, Mapping)
        if named or isinstance(listed, list | tuple) or hasattr(listed, "__next__"):
            for key, item in listed.items() if named else enumerate(listed):
                yield from _listed(layer, method, key, item, named=named)
            return


def _listed(layer: object, method: str, key: Any, item: object, *, named: bool) -> Iterator[Place]:
    """The place of what a method lists: a pair of value and gradient, or a parameter object."""
    path = (f"{method}()", key)
    if isinstance(item, tuple | list) and len(item) == 2 and is_parameter(item[0]):
        yield Place(_attribute_name(layer, item[0]) or f"{method}.{key}", (*path, 0), (*path, 1))
        return
    value, gradient = _fields(item)
    if gradient is not None and is_parameter(attribute_at(item, value)):
        name = str(key) if named else _attribute_name(layer, item) or f"{method}.{key}"
        yield Place(name, (*path, *value), (*path, gradient))


def _fields(item: object) -> tuple[tuple[str, ...], str | None]:
    """The path to the value in a parameter (object), and the field of its gradient; a tensor is its own value."""
    if isinstance(item, Tensor):
        return (), "grad"
    value = next((name for name in _VALUES if is_parameter(getattr(item, name, None))), None)
    gradient = next((name for name in _GRADIENTS if hasattr(item, name)), None)
    return ((), None) if value is None else ((value,), gradient)


def _from_attributes(layer: object, steady: Collection[str]) -> Iterator[Place]:
    held = vars(layer)
    for name in steady:
        value = held.get(name)
        if is_parameter(value):
            beside = next((other for other in _gradient_names(name) if _fits(held.get(other), value)), None)
            if beside is not None:
                yield Place(name, name, beside)
            elif value.grad is not None if isinstance(value, Tensor) else hasattr(value, "grad"):
                yield Place(name, name, (name, "grad"))
            elif hasattr(value, "gradient"):
                yield Place(name, name, (name, "gradient"))
        elif hasattr(value, "__dict__") and not callable(getattr(value, "backward", None)):
            inner, gradient = _fields(value)
            if gradient is not None:
                yield Place(name, (name, *inner), (name, gradient))


def _fits(gradient: object, value: Any) -> bool:
    return isinstance(gradient, Tensor | np.ndarray) and gradient is not value and is_parameter(gradient)


def _from_gradient_dictionary(layer: object, steady: Collection[str]) -> Iterator[Place]:
    for holder in ("gradient", "gradients", "grads", "grad"):
        gradients = getattr(layer, holder, None)
        if isinstance(gradients, Mapping):
            for key in gradients:
                plain = re.sub(r"^d_?", "", str(key))
                for name in (str(key), plain):
                    if name in steady and is_parameter(getattr(layer, name, None)):
                        yield Place(name, name, (holder, key))
                        break
        elif isinstance(gradients, Tensor | np.ndarray):
            others: dict[str, Any] = {name: getattr(layer, name, None) for name in steady if name != holder}
            alike = [n for n, x in others.items() if is_parameter(x) and x.shape == gradients.shape]
            if len(alike) == 1:
                yield Place(alike[0], alike[0], holder)


_CLOSED = (str, bytes, int, float, complex, type(None), type, types.ModuleType, types.FunctionType, Tensor, np.ndarray)


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
