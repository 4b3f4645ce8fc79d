"""How a layer object is understood: what its backward takes, where its parameters are, whether gradients are added."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.subjects import constants
from nn_from_scratch.verify.subjects.call_arguments import Arguments
from nn_from_scratch.verify.subjects.layer_object import LayerSubject
from nn_from_scratch.verify.subjects.layer_parameters import FoundParameters, Place, forgotten, mapped_parameters
from nn_from_scratch.verify.subjects.pair import positional_arguments, required_arguments
from nn_from_scratch.verify.subjects.reachable import found_at, is_parameter
from nn_from_scratch.verify.subjects.recognition import Form, forward_of


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
    notes: tuple[str, ...] = ()
    if mapping:
        places: Sequence[Place] = mapped_parameters(
            LayerSubject(layer, arguments, name, bare=bare).run({}).warm(), mapping
        )
    else:
        found = LayerSubject(layer, arguments, name, bare=bare).run({}).find_places()
        places, notes = _with_effect(layer, arguments, name, bare, found)
    lazy = _is_lazy(layer, places)
    adds, convention = _convention(LayerSubject(layer, arguments, name, places, bare, lazy=lazy))
    if bare:
        notes = ("the backward takes no cotangent: it is taken for that of cotangent 1", *notes)
    return LayerSubject(layer, arguments, name, places, bare, adds, (*convention, *notes), lazy)


def _is_lazy(layer: Any, places: Collection[Place]) -> bool:
    """Whether a layer that was never called lacks one of its parameters."""
    return any(not is_parameter(found_at(layer, place.value_path)) for place in places)


def _with_effect(
    layer: Any, arguments: Arguments, name: str, bare: bool, found: FoundParameters
) -> tuple[list[Place], tuple[str, ...]]:
    """The parameters to check, and a note that names what else the output depends on.

    What might be no parameter at all is one only if the output changes with it. What has no gradient although the
    output changes with it, and is listed or called like a parameter, has been forgotten.
    """
    unsure = [*found.doubtful, *found.listed, *found.others]
    if not unsure:
        return found.places, ()
    lazy = _is_lazy(layer, unsure)
    subject = LayerSubject(layer, arguments, name, unsure, bare, lazy=lazy)
    matters = {place.name: _matters(subject, place) for place in unsure}
    places = [place for place in found.places if matters.get(place.name, True)]
    missing = [
        place
        for place in (*found.listed, *found.others)
        if matters[place.name] and places and (place in found.listed or forgotten(place, places))
    ]
    rest = [p.name for p in (*found.listed, *found.others) if matters[p.name] and p not in missing]
    note = f"not looked at: {', '.join(rest)} (the output changes with it, and no gradient of it was found)"
    return [*places, *missing], (note,) if rest else ()


def _matters(subject: LayerSubject, place: Place) -> bool:
    """Whether the outputs change with a tensor that the layer holds; no where it draws them at random."""
    (value,) = (operand.value for operand in subject.operands if operand.name == place.name)
    before, again = subject.forward({}), subject.forward({})
    if any(not torch.equal(again[name], y) for name, y in before.items() if name in again and not y.isnan().any()):
        return False
    scale = float(value.abs().nan_to_num(posinf=1.0).mean()) or 1.0
    for size in constants.CHANGES_OF_A_TENSOR:
        try:
            outputs = subject.forward({place.name: value + size * scale})
        except SubjectError:
            return True
        if any(name not in outputs or not torch.equal(outputs[name], y) for name, y in before.items()):
            return True
    return False


def _convention(subject: LayerSubject) -> tuple[bool, tuple[str, ...]]:
    """Whether the backward adds to gradients that are not zero, measured, and a note that says so."""
    places = [place for place in subject.places if place.gradient_path is not None]
    if not places:
        return False, ()
    run = subject.run({})
    ones = run.ones()
    gradients = run.backward(ones)
    alone = {place.name: gradients[place.name] for place in places}
    held = {
        name: None if g is None or not g.numel() else torch.full_like(g, 1.0 + float(g.abs().max()))
        for name, g in alone.items()
    }
    onto = run.backward_onto(ones, {place.name: held.get(place.name) for place in subject.places})
    added = []
    for name, single in alone.items():
        start, total = held[name], onto[name]
        if (
            start is not None
            and single is not None
            and total is not None
            and start.shape == total.shape == single.shape
        ):
            # Closer to their sum than to the gradient alone.
            added.append(bool(((total - single - start).abs() < (total - single).abs()).any()))
    names = ", ".join(alone)
    if added and all(added):
        return True, (f"backward adds to the gradients of {names}",)
    if any(added):
        return True, (f"backward adds to some gradients of {names} and overwrites others",)
    return False, (f"backward overwrites the gradients of {names}",)
