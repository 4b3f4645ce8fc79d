"""Layer objects as courses write them: `forward(x)`, `backward(dy)`, gradients in fields of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Operand, Run, Subject, Traits, Values
from nn_from_scratch.verify.subjects.arguments import Arguments
from nn_from_scratch.verify.subjects.arrays import (
    as_array,
    as_gradient,
    cotangent_tree,
    in_kind,
    match_gradients,
)
from nn_from_scratch.verify.subjects.conventions import find_parameters, held_objects, mapped_parameters
from nn_from_scratch.verify.subjects.pair import required_arguments
from nn_from_scratch.verify.subjects.places import Place, substitute
from nn_from_scratch.verify.subjects.structure import name_outputs, snapshot, wrap_errors

__all__ = ["LayerRun", "LayerSubject", "forward_of"]


def forward_of(layer: object) -> Callable[..., Any]:
    """The layer's `forward`, or the layer itself where it is called instead."""
    forward = getattr(layer, "forward", None)
    return forward if callable(forward) else layer  # type: ignore[return-value]


class LayerRun:
    """One pass through a copy of the layer."""

    def __init__(self, subject: LayerSubject, layer: Any, private: Mapping[str, Tensor]) -> None:
        self._subject = subject
        self._layer = layer
        self._inputs = {slot.name: private[slot.name] for slot in subject.operands if slot.role == "input"}
        self._pass()
        self._named = name_outputs(self._raw, subject.name)
        self.outputs: Mapping[str, Tensor] = {name: tensor.detach() for name, tensor in self._named.items()}

    def _pass(self) -> None:
        handed = in_kind(self._inputs, self._subject.array_inputs)
        with torch.no_grad(), np.errstate(all="ignore"), wrap_errors(self._subject.name, "forward"):
            self._raw = self._subject.arguments.call(forward_of(self._layer), handed)
        self._fresh = True

    @property
    def handed(self) -> Mapping[str, Tensor]:
        """See `Run.handed`."""
        parameters = {place.name: _tensor(place.value(self._layer)) for place in self._subject.places}
        return self._inputs | parameters

    def _call(self, cotangents: Cotangents) -> dict[str, Tensor | None]:
        subject = self._subject
        if not self._fresh:
            self._pass()  # what the forward left behind may be used up
        self._fresh = False
        bound = self._layer.backward
        dy = cotangent_tree(self._raw, self._named, cotangents)
        takes = required_arguments(bound)
        seeds = list(dy) if isinstance(dy, tuple | list) and takes == len(dy) > 1 else [dy]
        with torch.no_grad(), np.errstate(all="ignore"), wrap_errors(subject.name, "backward"):
            returned = bound(*([] if subject.bare else seeds))
        inputs = [slot.name for slot in subject.operands if slot.role == "input"]
        wanted = [slot.name for slot in subject.operands if slot.role == "input" and slot.differentiable]
        if returned is None:
            return dict.fromkeys(wanted)
        return match_gradients(returned, inputs, wanted, subject.name)

    def find_places(self, cotangents: Cotangents, mapping: Mapping[str, str] | None) -> list[Place]:
        """Where this layer has its parameters, seen from what a backward and a further pass leave unchanged."""
        before = {
            path: {name: value for name, value in held.items() if not any(value is x for x in self._inputs.values())}
            for path, held in held_objects(self._layer).items()
        }
        self._call(cotangents)
        self._call(cotangents)
        return mapped_parameters(self._layer, mapping) if mapping else find_parameters(self._layer, before)

    def backward(self, cotangents: Cotangents) -> Gradients:
        """See `Run.backward`."""
        subject = self._subject
        _clear(self._layer, subject.places)
        gradients: dict[str, Tensor | None] = self._call(cotangents)
        for place in subject.places:
            gradients[place.name] = as_gradient(place.gradient(self._layer), place.name, subject.name)
        if not subject.bare:
            return gradients
        scale = next(iter(cotangents.values()), torch.zeros(()))
        return {name: None if g is None else g * scale.to(g.dtype) for name, g in gradients.items()}

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        """See `Run.backward_onto`."""
        subject = self._subject
        _clear(self._layer, subject.places)
        for place in subject.places:
            start = held[place.name]
            if start is not None:
                is_array = isinstance(place.value(self._layer), np.ndarray)
                new: object = as_array(start.clone(), place.name) if is_array else start.clone()
                current = place.gradient(self._layer)
                if current is None or not substitute(self._layer, {id(current): new}):
                    with wrap_errors(subject.name, "writing a gradient"):
                        place.set_gradient(self._layer, new)
        self._call(cotangents)
        return {
            place.name: as_gradient(place.gradient(self._layer), place.name, subject.name) for place in subject.places
        }

    def release(self) -> None:
        """See `Run.release`."""
        self._layer, self._raw, self._inputs = None, None, {}
        self._named, self.outputs = {}, {}


def _tensor(value: Any) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else torch.from_numpy(value)


def _clear(layer: Any, places: Sequence[Place]) -> None:
    """New zeros wherever the layer holds a gradient, in the dtype that its parameter has now.

    The old gradient stays as it is: somebody may hold it, and it may share memory with a cotangent.
    """
    for place in places:
        current, value = place.gradient(layer), place.value(layer)
        if current is None:
            continue
        zeros = torch.zeros_like(value) if isinstance(value, Tensor) else np.zeros_like(value)
        if not substitute(layer, {id(current): zeros}):
            place.set_gradient(layer, zeros)


class LayerSubject:
    """A layer object; each run works on a copy, so the user's own is never touched.

    Args:
        layer: the layer.
        arguments: its inputs.
        places: where its parameters and their gradients are.
        name: what messages call it.
        adds: whether its backward adds to the gradients that are there.
        bare: its backward takes no cotangent (a loss).
        notes: what the adapter found out.
    """

    form = "layer object"

    def __init__(
        self,
        layer: object,
        arguments: Arguments,
        places: Sequence[Place],
        *,
        name: str,
        adds: bool,
        bare: bool,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.target = layer
        self.name = name
        self.notes = notes
        self.arguments = arguments
        self.places = tuple(places)
        self.bare = bare
        with wrap_errors(name, "deepcopy"):
            self._layer = copy.deepcopy(layer)
        parameters = {place.name: place.value(self._layer) for place in self.places}
        arrays = any(isinstance(value, np.ndarray) for value in parameters.values())
        self.array_inputs = frozenset(s.name for s in arguments.operands) if arrays else arguments.arrays
        self.operands = arguments.operands + tuple(
            Operand(
                name=label,
                role="parameter",
                differentiable=True,
                required=True,
                value=snapshot(_tensor(value), offset=False),
            )
            for label, value in parameters.items()
        )
        how: Literal["returned", "adds", "overwrites"] = "adds" if adds else "overwrites"
        self.traits = Traits(
            several_pending=False,
            backward_twice=False,
            parameter_gradients=how if self.places else "returned",
            freezable=False,
            torch_engine=False,
            dtypes=True,
            devices=not (self.array_inputs or arrays),
            copies=True,
        )

    def _prepared(self, private: Mapping[str, Tensor]) -> Any:
        with wrap_errors(self.name, "deepcopy"):
            layer = copy.deepcopy(self._layer)
        with wrap_errors(self.name, "writing a parameter"):
            for place in self.places:
                _put(layer, place, private[place.name], self.name)
        return layer

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        """See `Subject.forward`."""
        return self.run(values).outputs

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> LayerRun:
        """See `Subject.run`."""
        if frozen or beside is not None:
            raise SubjectError(f"{self.name} is a layer object: it remembers one pass, and nothing in it can be frozen")
        private = {slot.name: snapshot(values.get(slot.name, slot.value)) for slot in self.operands}
        return LayerRun(self, self._prepared(private), private)

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        """See `Subject.backward_together`."""
        raise SubjectError(f"{self.name} is a layer object: it remembers one pass")

    def rebuilt(self, target: object) -> Subject:
        """See `Subject.rebuilt`."""
        adds = self.traits.parameter_gradients == "adds"
        return LayerSubject(
            target, self.arguments, self.places, name=self.name, adds=adds, bare=self.bare, notes=self.notes
        )


def _put(layer: Any, place: Place, value: Tensor, name: str) -> None:
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
