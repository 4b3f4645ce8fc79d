"""Layer objects as courses write them: `forward(x)`, `backward(dy)`, gradients in fields of the layer."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
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
from nn_from_scratch.verify.subjects.call_arguments import (
    Arguments,
    differentiable_names,
    parameter_operand,
    private_values,
    role_names,
)
from nn_from_scratch.verify.subjects.layer_parameters import (
    Place,
    find_parameters,
    held_objects,
    mapped_parameters,
    substitute,
)
from nn_from_scratch.verify.subjects.pair import positional_arguments, required_arguments
from nn_from_scratch.verify.subjects.recognition import Form, forward_of
from nn_from_scratch.verify.subjects.structure import name_outputs, wrap_errors


class LayerRun:
    """One pass through a copy of the layer."""

    def __init__(self, subject: LayerSubject, layer: Any, private: Mapping[str, Tensor]) -> None:
        self._subject = subject
        self._layer = layer
        self._inputs = {name: private[name] for name in role_names(subject.operands, "input")}
        self._forward()
        self._named = name_outputs(self._raw, subject.name)
        self.outputs: Mapping[str, Tensor] = {name: tensor.detach() for name, tensor in self._named.items()}

    def _forward(self) -> None:
        with numpy_call(self._subject.name, "forward"):
            handed = arrays_for(self._inputs, self._subject.array_inputs)
            self._raw = self._subject.arguments.call(forward_of(self._layer), handed)
        self._fresh = True

    @property
    def handed(self) -> Mapping[str, Tensor]:
        return self._inputs | {place.name: _tensor(place.value(self._layer)) for place in self._subject.places}

    def ones(self) -> dict[str, Tensor]:
        """A cotangent of ones for each floating-point output."""
        return {name: torch.ones_like(y) for name, y in self.outputs.items() if y.is_floating_point()}

    def _call(self, cotangents: Cotangents) -> dict[str, Tensor | None]:
        """Call the layer's backward once; the gradients of its inputs."""
        subject = self._subject
        if not self._fresh:
            self._forward()  # what the forward left behind may be used up
        self._fresh = False
        dy = cotangent_tree(self._raw, self._named, cotangents)
        takes = required_arguments(self._layer.backward)
        seeds = list(dy) if isinstance(dy, tuple | list) and takes == len(dy) > 1 else [dy]
        with numpy_call(subject.name, "backward"):
            returned = self._layer.backward(*([] if subject.bare else seeds))
        wanted = differentiable_names(subject.arguments.operands)
        if returned is None:
            return dict.fromkeys(wanted)
        return match_gradients(returned, list(self._inputs), wanted, subject.name)

    def _parameter_gradients(self) -> dict[str, Tensor | None]:
        places, name = self._subject.places, self._subject.name
        return {place.name: as_gradient(place.gradient(self._layer), place.name, name) for place in places}

    def find_places(self, mapping: Mapping[str, str] | None) -> list[Place]:
        """Where this layer has its parameters, seen from what a backward and a further pass leave unchanged."""
        before = {
            path: {name: value for name, value in held.items() if not any(value is x for x in self._inputs.values())}
            for path, held in held_objects(self._layer).items()
        }
        self._call(self.ones())
        self._call(self.ones())
        return mapped_parameters(self._layer, mapping) if mapping else find_parameters(self._layer, before)

    def backward(self, cotangents: Cotangents) -> Gradients:
        _clear(self._layer, self._subject.places)
        gradients = self._call(cotangents) | self._parameter_gradients()
        if not self._subject.bare:
            return gradients
        scale = next(iter(cotangents.values()), torch.zeros(()))
        return {name: None if g is None else g * scale.to(g.dtype) for name, g in gradients.items()}

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
        return self._parameter_gradients()

    def release(self) -> None:
        self._layer, self._raw, self._inputs = None, None, {}
        self._named, self.outputs = {}, {}


def _tensor(value: Any) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else torch.from_numpy(value)


def _put_gradient(layer: Any, place: Place, new: object) -> None:
    """Replace a gradient wherever the layer holds it, or put it in its place where the layer has none yet."""
    current = place.gradient(layer)
    if current is None or not substitute(layer, {id(current): new}):
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


@dataclass(eq=False)
class LayerSubject:
    """A layer object; each run works on a copy, so the user's own is never touched.

    Attributes:
        places: where its parameters and their gradients are.
        bare: its backward takes no cotangent (a loss).
        adds: whether its backward adds to the gradients that are there.
    """

    target: Any
    arguments: Arguments
    name: str
    places: Sequence[Place] = ()
    bare: bool = False
    adds: bool = False
    notes: tuple[str, ...] = ()
    form: str = "layer object"

    def __post_init__(self) -> None:
        arguments = self.arguments
        with wrap_errors(self.name, "deepcopy"):
            self._layer = copy.deepcopy(self.target)
        parameters = {place.name: place.value(self._layer) for place in self.places}
        arrays = any(isinstance(value, np.ndarray) for value in parameters.values())
        self.array_inputs = frozenset(role_names(arguments.operands, "input")) if arrays else arguments.arrays
        self.operands: tuple[Operand, ...] = (
            *arguments.operands,
            *(parameter_operand(label, _tensor(value), self.name) for label, value in parameters.items()),
        )
        how: Literal["returned", "adds", "overwrites"] = "adds" if self.adds else "overwrites"
        self.traits = Traits(
            parameter_gradients=how if self.places else "returned", devices=not (self.array_inputs or arrays)
        )

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        return self.run(values).outputs

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> LayerRun:
        if frozen or beside is not None:
            raise SubjectError(f"{self.name} is a layer object: it remembers one pass, and nothing in it can be frozen")
        private = private_values(self.operands, values)
        with wrap_errors(self.name, "deepcopy"):
            layer = copy.deepcopy(self._layer)
        with wrap_errors(self.name, "writing a parameter"):
            for place in self.places:
                _put_value(layer, place, private[place.name], self.name)
        return LayerRun(self, layer, private)

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
        new: object = value if isinstance(held, Tensor) else as_array(value, place.name)
        if not substitute(layer, {id(held): new}):
            raise SubjectError(f"{place.name} of {name} cannot be given another dtype: it is held out of reach")


def _accepts(obj: Any) -> bool:
    return not isinstance(obj, type) and callable(getattr(obj, "backward", None)) and callable(forward_of(obj))


@Form(
    "layer object",
    "an object with forward(x) or __call__, and backward(dy) that returns the input's gradient",
    order=50,
    accepts=_accepts,
)
def adapt_layer(
    layer: Any, arguments: Arguments, *, name: str, mapping: Mapping[str, str] | None = None
) -> LayerSubject:
    """The subject around a layer object; a few passes show its conventions.

    Args:
        mapping: the dotted path of each parameter to that of its gradient; None for the common conventions.

    Raises:
        SubjectError: the layer cannot be copied, or its forward or backward raised or fits no known form.
    """
    takes = required_arguments(layer.backward)
    if takes is not None and takes > 1 and takes != len(LayerSubject(layer, arguments, name).run({}).outputs):
        raise SubjectError(
            f"backward of {name} takes {takes} arguments; a layer's backward takes the cotangent of each output"
        )
    bare = positional_arguments(layer.backward) == []
    places = LayerSubject(layer, arguments, name, bare=bare).run({}).find_places(mapping)
    adds, notes = _convention(LayerSubject(layer, arguments, name, places, bare))
    if bare:
        notes += ("the backward takes no cotangent: it is taken for that of cotangent 1",)
    return LayerSubject(layer, arguments, name, places, bare, adds, notes)


def _convention(subject: LayerSubject) -> tuple[bool, tuple[str, ...]]:
    """Whether the backward adds to gradients that are not zero, measured, and a note that says so."""
    if not subject.places:
        return False, ()
    run = subject.run({})
    ones = run.ones()
    alone = {place.name: run.backward(ones)[place.name] for place in subject.places}
    held = {name: None if g is None else torch.full_like(g, 1.0 + float(g.abs().max())) for name, g in alone.items()}
    onto = run.backward_onto(ones, held)
    added = []
    for name, single in alone.items():
        start, total = held[name], onto[name]
        if start is not None and single is not None and total is not None and start.numel():
            # Closer to their sum than to the gradient alone.
            added.append(bool(((total - single - start).abs() < (total - single).abs()).any()))
    names = ", ".join(alone)
    if added and all(added):
        return True, (f"backward adds to the gradients of {names}",)
    if any(added):
        return True, (f"backward adds to some gradients of {names} and overwrites others",)
    return False, (f"backward overwrites the gradients of {names}",)
