"""Where layers written in courses keep their parameters and the gradients of these.

A place is looked up in the layer each time, because many layers make a new gradient array in every backward.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.subjects.places import Place, attribute_at, is_parameter, place_at
from nn_from_scratch.verify.subjects.structure import describe

__all__ = ["find_parameters", "held_objects", "mapped_parameters"]

# How a gradient is called beside its parameter W.
_GRADIENT_NAMES = (
    "d{0}",
    "d_{0}",
    "grad_{0}",
    "{0}_grad",
    "grad{0}",
    "{0}grad",
    "g{0}",
    "{0}_gradient",
    "gradient_{0}",
    "dL_d{0}",
    "dLd{0}",
    "dloss_d{0}",
    "delta_{0}",
    "{0}_delta",
)
# How an object that is a parameter calls its value and its gradient.
_VALUES = ("value", "data", "val", "values", "weight")
_GRADIENTS = ("grad", "gradient", "g", "dvalue")


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
                f"mapping names the parameter {value!r}, but there {type(layer).__name__} has "
                f"{describe(found)}; "
                "a floating-point tensor or array is expected"
            )
        places.append(place_at(value, value, gradient))
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
            input, is no parameter.
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
            places.extend(_within(inner_path, place) for place in find_parameters(inner, before, path=whole))
    return places


def _inner_layers(name: str, held: object) -> Iterator[tuple[str, object]]:
    listed = enumerate(held) if isinstance(held, list | tuple) else [(None, held)]
    for place, item in listed:
        if callable(getattr(item, "backward", None)) and not isinstance(item, Tensor) and hasattr(item, "__dict__"):
            yield (name if place is None else f"{name}.{place}"), item


def _within(path: str, place: Place) -> Place:
    return Place(
        f"{path}.{place.name}",
        lambda layer: place.value(attribute_at(layer, path)),
        lambda layer: place.gradient(attribute_at(layer, path)),
        lambda layer, new: place.set_gradient(attribute_at(layer, path), new),
    )


def _from_collections(layer: object) -> Iterator[Place]:
    for values_name, gradients_name in (
        ("params", "grads"),
        ("parameters", "gradients"),
        ("params", "gradients"),
    ):
        values, gradients = getattr(layer, values_name, None), getattr(layer, gradients_name, None)
        if isinstance(values, Mapping) and isinstance(gradients, Mapping):
            for key, value in values.items():
                if not is_parameter(value):
                    continue
                names = [str(key), *(pattern.format(key) for pattern in _GRADIENT_NAMES)]
                match = next((name for name in names if name in gradients), None)
                if match is not None:
                    yield place_at(str(key), f"{values_name}.{key}", f"{gradients_name}.{match}")
        elif isinstance(values, list | tuple) and isinstance(gradients, list | tuple) and len(values) == len(gradients):
            for place, value in enumerate(values):
                if is_parameter(value):
                    name = _attribute_name(layer, value) or f"{values_name}.{place}"
                    yield place_at(name, f"{values_name}.{place}", f"{gradients_name}.{place}")


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
        items = list(listed.items()) if isinstance(listed, Mapping) else None
        if items is None:
            if not isinstance(listed, list | tuple) and not hasattr(listed, "__next__"):
                continue
            items = [(None, item) for item in listed]
        for place, (key, item) in enumerate(items):
            yield from _listed(layer, method, place, key, item)
        return


def _listed(layer: object, method: str, place: int, key: object, item: object) -> Iterator[Place]:
    def nth(owner: Any) -> Any:
        listed = getattr(owner, method)()
        return listed[key] if isinstance(listed, Mapping) else list(listed)[place]

    if isinstance(item, tuple | list) and len(item) == 2 and is_parameter(item[0]):
        name = _attribute_name(layer, item[0]) or f"{method}.{place}"

        def write(owner: Any, new: Any) -> None:
            nth(owner)[1][...] = new

        yield Place(name, lambda owner: nth(owner)[0], lambda owner: nth(owner)[1], write)
        return
    value, gradient = _parts(item)
    if gradient is not None:
        held = item if value is None else getattr(item, value)
        name = str(key) if key is not None else _attribute_name(layer, item) or f"{method}.{place}"
        if is_parameter(held):
            yield Place(
                name,
                lambda owner: nth(owner) if value is None else getattr(nth(owner), value),
                lambda owner: getattr(nth(owner), gradient),
                lambda owner, new: setattr(nth(owner), gradient, new),
            )


def _parts(item: object) -> tuple[str | None, str | None]:
    """The attributes in which a parameter (object) keeps its value and its gradient; a tensor is its own value."""
    gradient = next((name for name in _GRADIENTS if hasattr(item, name)), None)
    if isinstance(item, Tensor):
        return None, "grad"
    value = next((name for name in _VALUES if is_parameter(getattr(item, name, None))), None)
    return value, gradient if value is not None else None


def _from_attributes(layer: object, steady: Collection[str]) -> Iterator[Place]:
    held = vars(layer)
    for name in steady:
        value = held.get(name)
        if is_parameter(value):
            beside = next((p.format(name) for p in _GRADIENT_NAMES if _fits(held.get(p.format(name)), value)), None)
            if beside is not None:
                yield place_at(name, name, beside)
            elif isinstance(value, Tensor) and value.grad is not None:
                yield place_at(name, name, f"{name}.grad")
            elif hasattr(value, "gradient"):
                yield place_at(name, name, f"{name}.gradient")
            elif hasattr(value, "grad") and not isinstance(value, Tensor):
                yield place_at(name, name, f"{name}.grad")
        elif hasattr(value, "__dict__") and not callable(getattr(value, "backward", None)):
            inner, gradient = _parts(value)
            if inner is not None and gradient is not None:
                yield place_at(name, f"{name}.{inner}", f"{name}.{gradient}")


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
                        yield place_at(name, name, f"{holder}.{key}")
                        break
        elif isinstance(gradients, Tensor | np.ndarray):
            alike = [
                name
                for name in steady
                if name != holder
                and is_parameter(getattr(layer, name, None))
                and getattr(layer, name).shape == gradients.shape
            ]
            if len(alike) == 1:
                yield place_at(alike[0], alike[0], holder)
