"""What a layer object does with its gradients, measured in a few passes, and the subject made of that."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.subjects.arguments import Arguments
from nn_from_scratch.verify.subjects.layer_object import LayerSubject
from nn_from_scratch.verify.subjects.pair import required_arguments

__all__ = ["adapt_layer"]


def adapt_layer(layer: object, arguments: Arguments, *, name: str, mapping: Mapping[str, str] | None) -> LayerSubject:
    """The subject around a layer object; one forward and two backwards show its conventions.

    Args:
        layer: the layer.
        arguments: its inputs.
        name: what messages call it.
        mapping: the dotted path of each parameter to that of its gradient; None for the common conventions.

    Raises:
        SubjectError: the layer cannot be copied, or its forward or backward raised or fits no known form.
    """
    takes = required_arguments(layer.backward)  # type: ignore[attr-defined]
    if takes is not None and takes > 1 and takes != _output_count(layer, arguments, name):
        raise SubjectError(
            f"backward of {name} takes {takes} arguments; a layer's backward takes the cotangent of each output"
        )
    bare = takes == 0 and not _accepts_one(layer)
    probe = LayerSubject(layer, arguments, (), name=name, adds=False, bare=bare)
    run = probe.run({})
    seeds = {key: torch.ones_like(y) for key, y in run.outputs.items() if y.is_floating_point()}
    places = run.find_places(seeds, mapping)
    subject = LayerSubject(layer, arguments, places, name=name, adds=False, bare=bare)
    adds, note = _convention(subject)
    notes: tuple[str, ...] = (note,) if note else ()
    if bare:
        notes += ("the backward takes no cotangent: it is taken for that of cotangent 1",)
    return LayerSubject(layer, arguments, places, name=name, adds=adds, bare=bare, notes=notes)


def _output_count(layer: object, arguments: Arguments, name: str) -> int:
    return len(LayerSubject(layer, arguments, (), name=name, adds=False, bare=False).run({}).outputs)


def _accepts_one(layer: Any) -> bool:
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return any(p.kind in kinds for p in inspect.signature(layer.backward).parameters.values())


def _convention(subject: LayerSubject) -> tuple[bool, str | None]:
    """Whether the backward adds to gradients that are not zero, measured."""
    if not subject.places:
        return False, None
    run = subject.run({})
    seeds = {key: torch.ones_like(y) for key, y in run.outputs.items() if y.is_floating_point()}
    alone = {place.name: run.backward(seeds)[place.name] for place in subject.places}
    held = {
        place.name: None if (g := alone[place.name]) is None else torch.full_like(g, 1.0 + float(g.abs().max()))
        for place in subject.places
    }
    onto = run.backward_onto(seeds, held)
    added = []
    for place in subject.places:
        start, single, total = held[place.name], alone[place.name], onto[place.name]
        if start is not None and single is not None and total is not None and start.numel():
            added.append(bool(((total - single).abs() > 0.5 * start.abs()).any()))
    names = ", ".join(place.name for place in subject.places)
    if added and all(added):
        return True, f"backward adds to the gradients of {names}"
    if any(added):
        return True, f"backward adds to some gradients of {names} and overwrites others"
    return False, f"backward overwrites the gradients of {names}"
