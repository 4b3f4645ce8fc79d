"""Layer objects as courses write them: `forward(x)`, `backward(dy)`, gradients in fields of the layer."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Operand, Run, Subject, Traits, Values
from nn_from_scratch.verify.subjects.arrays import (
    arrays_for,
    as_array,
    as_gradient,
    cotangent_tree,
    match_gradients,
    numpy_call,
)
from nn_from_scratch.verify.subjects.backward_arguments import DY, BackwardCall, learning_rate, scaled, split_cache
from nn_from_scratch.verify.subjects.call_arguments import (
    Arguments,
    differentiable_names,
    parameter_operand,
    placement,
    private_values,
    role_names,
)
from nn_from_scratch.verify.subjects.layer_parameters import (
    FoundParameters,
    Place,
    find_parameters,
)
from nn_from_scratch.verify.subjects.methods import Methods
from nn_from_scratch.verify.subjects.reachable import duplicate, held_tensors, substitute
from nn_from_scratch.verify.subjects.structure import leaves, name_outputs, wrap_errors
from nn_from_scratch.verify.subjects.traces import Passes, entries_of

_OF_NUMPY = (torch.float16, torch.float32, torch.float64)


class LayerRun:
    """One pass through a copy of the layer."""

    def __init__(self, subject: LayerSubject, layer: Any, private: Mapping[str, Tensor]) -> None:
        self._subject = subject
        self._layer = layer
        self._inputs = {name: private[name] for name in role_names(subject.operands, "input")}
        self._parameters = {place.name: private[place.name].clone() for place in subject.places if place.updated}
        self._returned: dict[str, object] = {}
        self._forward()
        self._named = name_outputs(self._raw, subject.name)
        self.outputs: Mapping[str, Tensor] = {name: tensor.detach() for name, tensor in self._named.items()}

    def _forward(self) -> None:
        with numpy_call(self._subject.name, "forward"):
            self._handed = arrays_for(self._inputs, self._subject.array_inputs)
            forward = self._subject.conventions.methods.forward_of(self._layer)
            returned = self._subject.arguments.call(forward, self._handed)
        if returned is None and self._subject.conventions.output is not None:
            returned = getattr(self._layer, self._subject.conventions.output, None)
        self._raw, self._cache = split_cache(returned, self._subject.conventions.cached, self._subject.name)
        self._fresh = True

    @property
    def layer(self) -> Any:
        """The copy of the layer that it is a pass through."""
        return self._layer

    @property
    def raw(self) -> object:
        """What the forward returned, without its cache."""
        return self._raw

    @property
    def handed(self) -> Mapping[str, Tensor]:
        kept = (place for place in self._subject.places if not place.updated)
        return self._inputs | {place.name: _tensor(place.value(self._layer)) for place in kept}

    def ones(self) -> dict[str, Tensor]:
        """A cotangent of ones for each floating-point output."""
        return {name: torch.ones_like(y) for name, y in self.outputs.items() if y.is_floating_point()}

    def call_backward(self, cotangents: Cotangents) -> object:
        """Call the layer's backward once; what it returns."""
        subject, conventions = self._subject, self._subject.conventions
        if not self._fresh:
            self._forward()  # what the forward left behind may be used up
        self._fresh = False
        dy = cotangent_tree(self._raw, self._named, cotangents)
        for given, output in zip(_tensors(dy), _tensors(self._raw), strict=True):
            given.__dict__.update(output.__dict__)  # what a layer has written on its output, such as its creator
        passed_on = self._layers_before()
        arguments = conventions.call.arguments(dy, self._handed, self._raw, self._cache, self._rate)
        with numpy_call(subject.name, "backward"):
            returned: Any = conventions.methods.backward_of(self._layer)(*arguments)
        self._undo_updates()
        if returned is None and passed_on:
            found = tuple(passed_on.get(name) for name in self._handed)
            returned = found[0] if len(found) == 1 else found
        if returned is None and conventions.gradients:
            return {name: getattr(self._layer, path, None) for name, path in conventions.gradients.items()}
        return returned * dy if conventions.call.pointwise else returned

    def _layers_before(self) -> dict[str, object]:
        """What the backward hands on for each input to the layer that made it, where layers know those before them."""
        passed_on: dict[str, object] = {}
        if any("creator" in vars(output) for output in _tensors(self._raw)):
            for name, x in self._handed.items():
                if isinstance(x, Tensor):
                    x.__dict__["creator"] = _Predecessor(name, passed_on)
        return passed_on

    @property
    def _rate(self) -> float:
        """The learning rate, for a backward that takes one."""
        dtypes = [y.dtype for y in self.outputs.values() if y.is_floating_point()]
        return learning_rate(dtypes[0]) if dtypes else 1.0

    def _undo_updates(self) -> None:
        """Keep what the backward has subtracted from parameters, and put their values back."""
        for place in self._subject.places:
            if place.updated:
                start = self._parameters[place.name]
                self._returned[place.name] = (start - _tensor(place.value(self._layer)).detach()) / self._rate
                _put_value(self._layer, place, start, self._subject.name)

    def _call(self, cotangents: Cotangents) -> dict[str, Tensor | None]:
        """Call the layer's backward once; the gradients of its inputs."""
        subject = self._subject
        returned = self.call_backward(cotangents)
        wanted = differentiable_names(subject.operands)
        inputs = [name for name in wanted if name in self._inputs]
        if returned is None:
            return dict.fromkeys(inputs)
        order = subject.conventions.order
        if order is None:
            return match_gradients(returned, list(self._inputs), inputs, subject.name)
        parts = [part for _, part in leaves(returned, "")]
        if len(parts) != len(order):
            raise SubjectError(
                f"backward of {subject.name} returned {len(parts)} gradients, but {len(order)} the first time"
            )
        self._returned |= {name: part for name, part in zip(order, parts, strict=True) if name is not None}
        return {name: as_gradient(self._returned.get(name), name, subject.name) for name in inputs}

    def _parameter_gradients(self) -> dict[str, Tensor | None]:
        places, name = self._subject.places, self._subject.name
        return {
            place.name: as_gradient(
                self._returned.get(place.name) if place.returned or place.updated else place.gradient(self._layer),
                place.name,
                name,
            )
            for place in places
        }

    def find_places(self) -> FoundParameters:
        """Where this layer has its parameters, seen from what a backward and a further pass leave unchanged."""
        before = held_tensors(self._layer)
        entries = {path: entries_of(value) for path, value in before.items()}
        ones = self.ones()
        returned = [*self._call(ones).values(), *self._call(ones).values()]
        arrays = [g.numpy() for g in returned if g is not None and g.device.type == "cpu" and g.dtype in _OF_NUMPY]
        foreign = [*self._inputs.values(), *self._handed.values(), *self.outputs.values()]
        passes = Passes(before, entries, foreign, [*returned, *arrays, *ones.values()])
        return find_parameters(self._layer, passes, list(self._inputs))

    def warm(self) -> Any:
        """The layer after a forward and a backward, in which it has made what it makes in its first ones."""
        self._call(self.ones())
        return self._layer

    def backward(self, cotangents: Cotangents) -> Gradients:
        _clear(self._layer, self._subject.places)
        gradients = self._call(cotangents) | self._parameter_gradients()
        return scaled(gradients, cotangents) if self._subject.conventions.call.bare else gradients

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        _clear(self._layer, self._subject.places)
        for place in self._subject.places:
            start = held[place.name]
            if start is not None:
                is_array = isinstance(place.value(self._layer), np.ndarray)
                new: object = as_array(start.clone(), place.name) if is_array else start.clone()
                with wrap_errors(self._subject.name, "writing a gradient"):
                    _put_gradient(self._layer, place, new)
        self._call(cotangents)
        found = self._parameter_gradients()
        if not self._subject.conventions.call.bare:
            return found
        scale = next(iter(cotangents.values()), torch.zeros(()))
        return {name: _scaled_beside(g, held[name], scale) for name, g in found.items()}

    def release(self) -> None:
        self._layer, self._raw, self._cache, self._returned = None, None, None, {}
        self._inputs, self._handed = {}, {}
        self._named, self.outputs = {}, {}


@dataclass
class _Predecessor:
    """Stands for the layer that made an input: a backward that hands its gradient on, not back, gives it here."""

    name: str
    passed_on: dict[str, Any]

    def backward(self, gradient: Any) -> None:
        """Keep the gradient of the input, or add it to the one that came before."""
        held = self.passed_on.get(self.name)
        self.passed_on[self.name] = gradient if held is None else held + gradient


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for _, leaf in leaves(tree, "") if isinstance(leaf, Tensor)]


def _tensor(value: Any) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else torch.from_numpy(value)


def _scaled_beside(total: Tensor | None, held: Tensor | None, scale: Tensor) -> Tensor | None:
    """What was added to a gradient that was there, times a cotangent that the backward does not take."""
    if total is None or held is None or total.shape != held.shape:
        return total
    return held + (total - held) * scale.to(total.dtype)


def _normal(value: Tensor) -> Tensor:
    """The values with zeros for what is smaller than the smallest normal number, as `empty` leaves it behind."""
    return torch.where(value.abs() < torch.finfo(value.dtype).tiny, torch.zeros_like(value), value)


def _cast(value: Any, dtype: torch.dtype | None, device: torch.device | None) -> Any:
    """A tensor or array in another dtype and on another device; itself where it has no such dtype."""
    if isinstance(value, Tensor):
        return value.to(device, dtype)
    return value if dtype not in _OF_NUMPY else value.astype(as_array(torch.zeros((), dtype=dtype), "").dtype)


def _put_gradient(layer: Any, place: Place, new: object) -> None:
    """Replace a gradient wherever the layer holds it, or put it in its place where the layer has none yet."""
    current = place.gradient(layer)
    if isinstance(current, Tensor | np.ndarray):  # a number may be held elsewhere for another reason
        substitute(layer, {id(current): new})
    if place.gradient(layer) is not new:
        place.set_gradient(layer, new)


def _clear(layer: Any, places: Sequence[Place]) -> None:
    """New zeros wherever the layer holds a gradient, in the dtype that its parameter has now.

    The old gradient stays as it is: the caller may hold it, and it may share memory with a cotangent.
    """
    for place in places:
        if place.gradient(layer) is not None:
            value = place.value(layer)
            zeros = torch.zeros_like(value) if isinstance(value, Tensor) else np.zeros_like(value)
            _put_gradient(layer, place, zeros)


@dataclass(frozen=True)
class Conventions:
    """How a layer is called.

    Attributes:
        methods: what it calls its passes.
        call: what its backward takes.
        cached: whether its forward returns `(y, cache)`.
        order: the operand that each gradient belongs to which the backward returns, None for one that is ignored; None
            where there is one for each input.
        output: the attribute with the output, where the forward returns nothing.
        gradients: the attributes with the gradients of inputs, where the backward returns nothing.
        adds: whether its backward adds to the gradients that are there.
        lazy: whether it makes parameters in its first forward.
    """

    methods: Methods
    call: BackwardCall = DY
    cached: bool = False
    order: tuple[str | None, ...] | None = None
    output: str | None = None
    gradients: Mapping[str, str] = field(default_factory=dict)
    adds: bool = False
    lazy: bool = False


@dataclass(eq=False)
class LayerSubject:
    """A layer object; each run works on a copy, so the user's own is never touched.

    Attributes:
        conventions: how it is called.
        places: where its parameters and their gradients are.
    """

    target: Any
    arguments: Arguments
    name: str
    conventions: Conventions
    places: Sequence[Place] = ()
    notes: tuple[str, ...] = ()
    form: str = "layer object"

    def __post_init__(self) -> None:
        arguments = self.arguments
        order, wanted = self.conventions.order, arguments.operands
        if order is not None:
            wanted = tuple(replace(o, differentiable=o.differentiable and o.name in order) for o in wanted)
        copies = True
        if self.conventions.lazy:
            unaware = replace(self.conventions, lazy=False)
            self._layer = replace(self, conventions=unaware, places=()).run({}).warm()
        else:
            with wrap_errors(self.name, "deepcopy"):
                try:
                    self._layer = copy.deepcopy(self.target)
                except RecursionError:  # by a `__getattr__` of its class
                    self._layer, copies = duplicate(self.target), False
        parameters = {place.name: place.value(self._layer) for place in self.places}
        arrays = bool(parameters) and all(isinstance(value, np.ndarray) for value in parameters.values())
        self.array_inputs = frozenset(role_names(arguments.operands, "input")) if arrays else arguments.arrays
        self.operands: tuple[Operand, ...] = (
            *wanted,
            *(parameter_operand(label, _normal(_tensor(value)), self.name) for label, value in parameters.items()),
        )
        in_fields = self.places and not any(place.returned or place.updated for place in self.places)
        how: Literal["returned", "adds", "overwrites"] = "adds" if self.conventions.adds else "overwrites"
        self.traits = Traits(
            parameter_gradients=how if in_fields else "returned",
            devices=not (self.array_inputs or arrays),
            reusable=True,
            copies=copies,
        )

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        return self.run(values).outputs

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> LayerRun:
        if frozen:
            raise SubjectError(f"{self.name} is a layer object: nothing in it can be frozen")
        private = private_values(self.operands, values)
        if isinstance(beside, LayerRun):
            layer = beside.layer
        else:
            with wrap_errors(self.name, "deepcopy"):
                layer = duplicate(self._layer)
        with wrap_errors(self.name, "writing a parameter"):
            for place in self.places:
                _put_value(layer, place, private[place.name], self.name)
            self._cast_constants(layer, private)
        return LayerRun(self, layer, private)

    def _cast_constants(self, layer: Any, private: Mapping[str, Tensor]) -> None:
        """Bring what else the layer holds to where the values went that left their starting dtype or device."""
        dtype, device = placement(self.operands, private)
        if dtype is None and device is None:
            return
        held = {id(value): value for value in held_tensors(layer).values()}
        for place in self.places:
            held.pop(id(place.value(layer)), None)
        cast = {key: _cast(value, dtype, device) for key, value in held.items()}
        substitute(layer, {key: new for key, new in cast.items() if new is not held[key]})

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        raise SubjectError(f"{self.name} is a layer object: it remembers one pass")

    def rebuilt(self, target: object) -> Subject:
        return replace(self, target=target)


def _put_value(layer: Any, place: Place, value: Tensor, name: str) -> None:
    held = place.value(layer)
    same = tuple(held.shape) == tuple(value.shape) and _tensor(held).dtype == value.dtype
    if same and isinstance(held, Tensor) and held.device == value.device:
        with torch.no_grad():
            held.copy_(value)
    elif same and isinstance(held, np.ndarray) and held.flags.writeable:
        held[...] = as_array(value, place.name)
    else:
        if isinstance(held, Tensor):
            new: Any = value.detach()  # another object: what gets a gradient must not be what was handed over
            new.grad = None if held.grad is None else torch.zeros_like(new)
        else:
            new = as_array(value, place.name).view(type(held))
            getattr(new, "__dict__", {}).update(getattr(held, "__dict__", {}))
        if not substitute(layer, {id(held): new}):
            raise SubjectError(f"{place.name} of {name} cannot be given another dtype: it is held out of reach")
