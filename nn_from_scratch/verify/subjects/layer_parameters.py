"""Where layers written in courses keep their parameters and the gradients of these."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.subjects.call_arguments import unused_name
from nn_from_scratch.verify.subjects.reachable import (
    Path,
    attribute_at,
    found_at,
    held_tensors,
    is_parameter,
    parts_of,
    walk,
)
from nn_from_scratch.verify.subjects.structure import describe
from nn_from_scratch.verify.subjects.traces import Passes

# What stands before or after the name of a parameter in the name of its gradient.
_PREFIXES = ("d", "d_", "grad_", "grad", "g", "gradient_", "dL_d", "dLd", "dloss_d", "delta_")
_SUFFIXES = ("_grad", "grad", "_gradient", "_delta")
# How an object that is a parameter calls its value and its gradient.
_VALUES = ("value", "data", "val", "values", "weight")
_GRADIENTS = ("grad", "gradient", "g", "dvalue")
# What a dictionary or list of gradients is called.
_HOLDERS = ("grads", "gradients", "gradient", "grad")
_LIKE_A_GRADIENT = re.compile(r"(?i)^(d|g|delta|nabla)|grad|update|delta")
_LIKE_A_PARAMETER = re.compile(r"(?i)^(w|b|weights?|bias(es)?|kernels?|gamma|beta|theta)[_\d]*$")


def _gradient_names(name: object) -> list[str]:
    names = [str(name)] + ([str(name).lower()] if str(name) != str(name).lower() else [])
    return [f"{prefix}{n}" for n in names for prefix in _PREFIXES] + [
        f"{n}{suffix}" for n in names for suffix in _SUFFIXES
    ]


@dataclass(frozen=True)
class Place:
    """One parameter of a layer. It is looked up each time, because many layers make new arrays in every backward.

    Attributes:
        name: What the verifier calls it.
        gradient_path: Where its gradient is; None where the layer has none.
        returned: Whether the backward returns its gradient.
        updated: Whether the backward subtracts its gradient, times a rate, from it.
    """

    name: str
    value_path: Path
    gradient_path: Path | None
    returned: bool = False
    updated: bool = False

    def value(self, layer: Any) -> Any:
        """The parameter."""
        return attribute_at(layer, self.value_path)

    def gradient(self, layer: Any) -> Any:
        """Its gradient; None before there is one."""
        return None if self.gradient_path is None else found_at(layer, self.gradient_path)

    def set_gradient(self, layer: Any, new: Any) -> None:
        """Put another object in the gradient's place, or its entries where the place is in a tuple."""
        if self.gradient_path is None:
            return
        *path, last = parts_of(self.gradient_path)
        owner = attribute_at(layer, path)
        if isinstance(owner, tuple):
            owner[int(last)][...] = new
        elif isinstance(owner, list):
            owner[int(last)] = new
        elif isinstance(owner, Mapping):
            owner[last] = new  # type: ignore[index]
        else:
            setattr(owner, last, new)

    def within(self, path: Path) -> Place:
        """The same place seen from an object that has the layer at this path."""
        outer = parts_of(path)
        gradient = None if self.gradient_path is None else (*outer, *parts_of(self.gradient_path))
        return Place(".".join(map(str, (*outer, self.name))), (*outer, *parts_of(self.value_path)), gradient)


def mapped_parameters(layer: object, mapping: Mapping[str, str]) -> list[Place]:
    """The parameters that a mapping names: the dotted path of each to that of its gradient.

    Raises:
        SubjectError: a path leads to no floating-point tensor or array.
    """
    places = []
    for value, gradient in mapping.items():
        if value in ("forward", "backward"):
            continue  # what the layer calls its passes
        found = found_at(layer, value)
        if not is_parameter(found):
            raise SubjectError(
                f"mapping names the parameter {value!r}, but there {type(layer).__name__} has {describe(found)}; "
                "a floating-point tensor or array is expected"
            )
        places.append(Place(value, value, gradient))
    return places


@dataclass(frozen=True)
class FoundParameters:
    """The parameters of a layer.

    Attributes:
        places: Those with a gradient.
        doubtful: Those of `places` whose gradient might be that of something else.
        listed: What the layer itself lists as a parameter, and has no gradient for.
        others: What else it holds from one pass to the next.
    """

    places: list[Place]
    doubtful: list[Place]
    listed: list[Place]
    others: list[Place]


def find_parameters(layer: object, passes: Passes, inputs: Collection[str] = ()) -> FoundParameters:
    """The parameters of a layer whose forward and backward have run twice.

    A parameter is a tensor that stays the same object through the passes. Its gradient is found, in this order, in a
    pair of `param()`, `params()` or `parameters()`; on the parameter (`weight.grad`, `weight.gradient`); beside it
    under a name made of its own (`W` and `dW`); under the same key or place in `grads` or `gradients`; or it is all of
    its shape that the backward has written.

    Args:
        layer: the layer, or a network of layers.
        passes: what the passes left.
        inputs: the names that are taken.
    """
    after = held_tensors(layer)
    paths = {id(value): path for path, value in reversed(after.items())}
    steady = {path: value for path, value in after.items() if passes.before.get(path) is value and _size(value)}
    listed = [
        replace(place, value_path=paths.get(id(place.value(layer)), place.value_path))
        for place in _listed_places(layer)
        if _size(place.value(layer)) and not passes.is_foreign(place.value(layer))
    ]
    own = {id(place.value(layer)) for place in listed}
    candidates = listed + [
        Place(_name(layer, paths[id(value)]), path, None)
        for path, value in steady.items()
        if id(value) not in own and not passes.is_foreign(value)
    ]
    changed = passes.changed(after)
    changed_ids = {id(value) for value in changed.values()}
    candidates = [replace(p, name=unused_name(p.name, inputs, "self")) for p in candidates]
    taken: set[int] = set()
    found: dict[int, Place] = {}
    for place in candidates:
        value = place.value(layer)
        if id(value) in found:
            continue
        if place.gradient_path is None:
            gradients = [*_partner_in_pair(layer, place, changed_ids), *_gradient_paths(layer, place)]
        else:
            gradients = [place.gradient_path]
        for path in gradients:
            gradient = found_at(layer, path)
            if _is_gradient(gradient, value) and gradient is not value and id(gradient) not in taken:
                taken.add(id(gradient))
                found[id(value)] = replace(place, gradient_path=paths.get(id(gradient), path))
                break
    found = {key: place for key, place in found.items() if key not in taken}
    rest = {id(p.value(layer)): p for p in reversed(candidates)}
    rest = {key: place for key, place in rest.items() if key not in found and key not in taken}
    by_shape = _by_shape(layer, rest, {p: g for p, g in changed.items() if id(g) not in taken | found.keys()})
    found |= by_shape
    doubtful = list(by_shape.values()) + [p for p in found.values() if passes.is_returned(p.gradient(layer))]
    open_ = [place for key, place in rest.items() if key not in by_shape]
    ordered = [found[key] for key in dict.fromkeys(id(p.value(layer)) for p in candidates) if key in found]
    return FoundParameters(
        _named_apart(ordered),
        doubtful,
        [replace(p, gradient_path=None) for p in open_ if id(p.value(layer)) in own],
        [p for p in reversed(open_) if id(p.value(layer)) not in own],
    )


def forgotten(place: Place, others: Collection[Place]) -> bool:
    """Whether something without a gradient is called like a parameter, and stands beside one that has a gradient."""
    *path, last = parts_of(place.value_path)
    beside = any(list(parts_of(other.value_path)[:-1]) == path for other in others)
    return beside and _LIKE_A_PARAMETER.match(str(last)) is not None


def _is_gradient(found: object, value: Any) -> bool:
    """Whether something can be the gradient of a parameter: a tensor or array or, where that has no axes, a number."""
    return is_parameter(found) or (isinstance(found, float | np.floating) and not value.shape)


def numbers_with_gradients(layer: object) -> list[str]:
    """The Python floats among a layer's attributes that have a gradient beside them, which nothing can be put into."""
    held = getattr(layer, "__dict__", {})
    return [
        name
        for name, value in held.items()
        if type(value) is float and any(_is_gradient(held.get(g), np.zeros(())) for g in _gradient_names(name))
    ]


def _size(value: Any) -> int:
    return 0 if not is_parameter(value) else value.numel() if isinstance(value, Tensor) else value.size


def _name(layer: object, path: tuple[Any, ...]) -> str:
    """Its path; without the dictionary that holds it, and without the field of a parameter object."""
    if len(path) > 1 and _is_field(layer, path):
        path = path[:-1]
    elif len(path) == 2 and isinstance(found_at(layer, path[:1]), Mapping):
        path = path[1:]
    return ".".join(map(str, path))


def _is_field(layer: object, path: tuple[Any, ...]) -> bool:
    """Whether a path leads to the value in a parameter object."""
    box = found_at(layer, path[:-1])
    return path[-1] in _VALUES and not callable(getattr(box, "backward", None))


def _named_apart(places: list[Place]) -> list[Place]:
    """The places, those of one name under their whole path."""
    names = [place.name for place in places]
    return [
        replace(p, name=".".join(map(str, parts_of(p.value_path)))) if names.count(p.name) > 1 else p for p in places
    ]


def _gradient_paths(layer: object, place: Place) -> Iterator[Path]:
    """Where the gradient of what is at a path may be, the likeliest place first."""
    path = tuple(parts_of(place.value_path))
    *front, last = path
    names = _gradient_names(last)
    yield (*path, "grad")
    yield (*path, "gradient")
    if isinstance(last, str):
        yield from ((*front, name) for name in names)
        if front and _is_field(layer, path):
            yield from ((*front, name) for name in _GRADIENTS)
    for i, step in enumerate(path[:-1]):
        for holder in (*_HOLDERS, *(_gradient_names(step) if isinstance(step, str) else ())):
            beside = (*path[:i], holder, *path[i + 1 : -1])
            if isinstance(last, str):
                yield from ((*beside, name) for name in (last, *names))
            elif _length(found_at(layer, beside)) == _length(found_at(layer, path[:-1])):
                yield (*beside, last)
    if isinstance(last, str):
        for i in range(len(path)):
            yield from ((*path[:i], holder, name) for holder in _HOLDERS for name in (last, *names))


def _partner_in_pair(layer: object, place: Place, changed: Collection[int]) -> list[Path]:
    """The second of two in a tuple or list, if the backward has written it and it has the shape of the first."""
    *front, last = parts_of(place.value_path)
    pair = attribute_at(layer, front)
    if last == 0 and _length(pair) == 2 and is_parameter(pair[1]) and id(pair[1]) in changed:
        return [(*front, 1)] if tuple(pair[0].shape) == tuple(pair[1].shape) else []
    return []


def _length(value: object) -> int | None:
    return len(value) if isinstance(value, list | tuple) else None


def _by_shape(layer: object, rest: Mapping[int, Place], changed: Mapping[tuple[Any, ...], Any]) -> dict[int, Place]:
    """The parameters that are the only ones of their shape, as one thing called like a gradient is."""
    like = {path: value for path, value in changed.items() if any(_LIKE_A_GRADIENT.search(str(step)) for step in path)}
    found = {}
    for key, place in rest.items():
        shape = tuple(place.value(layer).shape)
        gradients = [path for path, value in like.items() if tuple(value.shape) == shape]
        alike = [other for other in rest.values() if tuple(other.value(layer).shape) == shape]
        if len(gradients) == len(alike) == 1:
            found[key] = replace(place, gradient_path=gradients[0])
    return found


def _listed_places(layer: object) -> list[Place]:
    """What a layer, and the layers that it holds, list as their parameters."""
    places: list[Place] = []
    for path, inner in walk(layer):
        if not isinstance(inner, Tensor | np.ndarray) and callable(getattr(inner, "backward", None)):
            own = list(_from_method(inner))
            places += [place.within(path) for place in own] if path else own
    return places


def _attribute_name(layer: object, value: object) -> str | None:
    return next((name for name, held in getattr(layer, "__dict__", {}).items() if held is value), None)


def _from_method(layer: object) -> Iterator[Place]:
    for method in ("param", "params", "parameters"):
        bound = getattr(layer, method, None)
        if not callable(bound):
            continue
        try:
            listed = bound()
            listed = list(listed) if hasattr(listed, "__next__") else listed
        except Exception:  # it wants arguments, or is not written yet: it is something else
            continue
        if isinstance(listed, Mapping | list | tuple):
            named = isinstance(listed, Mapping)
            for key, item in listed.items() if isinstance(listed, Mapping) else enumerate(listed):
                yield from _listed(layer, method, key, item, named=named)
            return


def _listed(layer: object, method: str, key: Any, item: object, *, named: bool) -> Iterator[Place]:
    """The place of what a method lists: a pair of value and gradient, a parameter object, or a bare tensor."""
    path = (f"{method}()", key)

    def name(held: object) -> str:
        return str(key) if named else _attribute_name(layer, held) or f"{method}.{key}"

    if is_parameter(item):
        yield Place(name(item), path, None)
    elif isinstance(item, tuple | list) and len(item) == 2:
        fields = [_value_field(part) for part in item]
        if fields[0] is not None:
            gradient = None if fields[1] is None else (*path, 1, *fields[1])
            yield Place(name(item[0]), (*path, 0, *fields[0]), gradient)
    else:
        field = _value_field(item)
        gradient_field = next((name for name in _GRADIENTS if hasattr(item, name)), None)
        if field is not None and gradient_field is not None:
            yield Place(name(item), (*path, *field), (*path, gradient_field))


def _value_field(item: object) -> tuple[str, ...] | None:
    """The path to the value in a parameter (object); a tensor is its own value."""
    if is_parameter(item):
        return ()
    name = next((name for name in _VALUES if is_parameter(getattr(item, name, None))), None)
    return None if name is None else (name,)
