"""How a layer object is understood: what its passes are called, take and return, and where its parameters are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.subjects import constants
from nn_from_scratch.verify.subjects.arrays import arrays_for, as_gradient, numpy_call
from nn_from_scratch.verify.subjects.backward_arguments import (
    BackwardCall,
    has_cache,
    is_derivative,
    is_one_number,
    positional_arguments,
    required_arguments,
    understand,
)
from nn_from_scratch.verify.subjects.call_arguments import (
    Arguments,
    differentiable_names,
    private_values,
    role_names,
    unused_name,
)
from nn_from_scratch.verify.subjects.gradient_order import gradient_order
from nn_from_scratch.verify.subjects.layer_fields import gradient_fields, output_field
from nn_from_scratch.verify.subjects.layer_object import Conventions, LayerSubject
from nn_from_scratch.verify.subjects.layer_parameters import (
    FoundParameters,
    Place,
    forgotten,
    mapped_parameters,
    numbers_with_gradients,
)
from nn_from_scratch.verify.subjects.methods import Methods, find_methods, is_plain_object
from nn_from_scratch.verify.subjects.reachable import duplicate, found_at, held_tensors, is_parameter
from nn_from_scratch.verify.subjects.recognition import Form
from nn_from_scratch.verify.subjects.structure import leaves, wrap_errors
from nn_from_scratch.verify.subjects.traces import equal


def _accepts(obj: Any) -> bool:
    return is_plain_object(obj) and find_methods(obj) is not None


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
        mapping: the dotted path of each parameter to that of its gradient; None for the common conventions. Under
            "forward" and "backward" the names of the methods.

    Raises:
        SubjectError: the layer cannot be copied, or its forward or backward raised or fits no known form.
    """
    methods = find_methods(layer, mapping)
    if methods is None:
        raise SubjectError(
            f'{name} has no forward and backward that are known here; mapping={{"forward": NAME, "backward": NAME}} '
            "says which of its methods they are"
        )
    subject = _called(layer, arguments, name, methods)
    notes: tuple[str, ...] = ()
    parameters = {path: gradient for path, gradient in (mapping or {}).items() if path not in ("forward", "backward")}
    subject, order_notes = _with_order(subject)
    if parameters:
        places: Sequence[Place] = mapped_parameters(subject.run({}).warm(), parameters)
        subject = replace(subject, places=places)
    elif updated := _updated_parameters(subject):
        subject, notes = _with_updates(subject, updated)
    else:
        run = subject.run({})
        found = run.find_places()
        numbers = numbers_with_gradients(run.layer)
        subject, notes = _with_parameters(subject, found)
        if numbers:
            notes += (f"not looked at: {', '.join(numbers)} (a Python float; make it an array to have it checked)",)
    adds, convention = _convention(subject)
    if subject.conventions.call.bare:
        notes = ("the backward takes no cotangent: it is taken for that of cotangent 1", *notes)
    conventions = replace(subject.conventions, adds=adds)
    return replace(subject, conventions=conventions, notes=(*convention, *order_notes, *notes))


def _called(layer: Any, arguments: Arguments, name: str, methods: Methods) -> LayerSubject:
    """The subject with what its passes are called with."""
    inputs = role_names(arguments.operands, "input")
    conventions = Conventions(methods)
    if methods.forward == "forward" and _carries_a_record(layer, arguments, name, methods):
        conventions = Conventions(replace(methods, forward="__call__"))
    backward = methods.backward_of(layer)
    subject = LayerSubject(layer, arguments, name, conventions)
    try:
        run = subject.run({})
    except SubjectError:
        output = _output_field(layer, arguments, methods, name)
        if output is None:
            raise
        conventions = replace(conventions, output=output)
        subject = replace(subject, conventions=conventions)
        run = subject.run({})
    cached = has_cache(backward, run.raw)
    outputs = len(run.outputs) - cached
    call = understand(backward, inputs, outputs, cached=cached, derivative=methods.derivative)
    if call is None or (call.bare and len(inputs) == len(call.roles) > 0 and not is_one_number(run.outputs)):
        names = ", ".join(p.name for p in positional_arguments(backward) or ())
        raise SubjectError(
            f"{methods.backward} of {name} takes {required_arguments(backward)} arguments ({names}); understood are a "
            "cotangent, the forward's inputs by their names, and a cache. Give the passes as a pair, as in "
            f"check((layer.{methods.forward}, lambda dy: layer.{methods.backward}(dy, ...)), {', '.join(inputs)})"
        )
    conventions = replace(conventions, call=call, cached=cached)
    subject = replace(subject, conventions=conventions)
    if call.roles == (("cotangent", ""),) and not required_arguments(backward) and _ignores_cotangent(subject):
        return replace(subject, conventions=replace(conventions, call=BackwardCall(())))
    if call.pointwise and not is_derivative(subject):
        of_output = replace(conventions, call=BackwardCall((("output", ""),), pointwise=True))
        other = replace(subject, conventions=of_output)
        if is_derivative(other):
            return other
        if [p.name for p in positional_arguments(backward) or ()][:1] != inputs:
            return replace(subject, conventions=replace(conventions, call=BackwardCall()))
    return subject


def _output_field(layer: Any, arguments: Arguments, methods: Methods, name: str) -> str | None:
    """The attribute in which the forward leaves its output; None if it returns it, or if that is not clear."""
    with wrap_errors(name, "deepcopy"):
        copied = duplicate(layer)
    values = arrays_for(private_values(arguments.operands, {}), arguments.arrays)
    before = dict(getattr(copied, "__dict__", {}))
    with numpy_call(name, "forward"):
        returned = arguments.call(methods.forward_of(copied), values)
    return output_field(before, copied, list(values.values())) if returned is None else None


def _carries_a_record(layer: Any, arguments: Arguments, name: str, methods: Methods) -> bool:
    """Whether calling the object gives a tensor with attributes, such as `input_index`, that its backward may read."""
    if not callable(layer):
        return False
    try:
        called = LayerSubject(layer, arguments, name, Conventions(replace(methods, forward="__call__"))).run({})
    except SubjectError:
        return False
    return isinstance(called.raw, torch.Tensor) and bool(vars(called.raw))


def _ignores_cotangent(subject: LayerSubject) -> bool:
    """Whether the backward of a single number may be called without a cotangent, and gives the same with any."""
    run = subject.run({})
    if not is_one_number(run.outputs):
        return False
    returned = [subject.run({}).call_backward({n: k * v for n, v in run.ones().items()}) for k in (1, 2)]
    one, two = ([as_gradient(part, "", subject.name) for _, part in leaves(tree, "")] for tree in returned)
    pairs = list(zip(one, two, strict=False))
    return bool(pairs) and all(
        a is not None and b is not None and torch.equal(a, b) and bool(a.any()) for a, b in pairs
    )


def _with_order(subject: LayerSubject) -> tuple[LayerSubject, tuple[str, ...]]:
    """The subject with the operands that its backward's gradients belong to, and what is to be said about them."""
    run = subject.run({})
    returned = run.call_backward(run.ones())
    if returned is None:
        wanted = differentiable_names(subject.operands)
        fields = gradient_fields(run.layer, role_names(subject.operands, "input"), wanted)
        notes = [f"the gradient of {n} is taken from the attribute {field}" for n, field in fields.items()]
        return replace(subject, conventions=replace(subject.conventions, gradients=fields)), tuple(notes)
    asked = [operand.name for operand in subject.operands if operand.required]
    inputs, wanted = role_names(subject.operands, "input"), differentiable_names(subject.operands)
    backward = subject.conventions.methods.backward_of(subject.target)

    def order_with(parameters: Mapping[str, torch.Tensor]) -> tuple[str | None, ...] | None:
        loss = is_one_number(run.outputs)
        return gradient_order(returned, inputs, wanted, asked, backward, parameters, subject.name, loss=loss)

    order = order_with({})
    if order is None:
        return subject, ()
    subject = replace(subject, conventions=replace(subject.conventions, order=order))
    if len(order) == 1:
        return subject, (f"backward gives one gradient, taken for that of {order[0]}",)
    found = subject.run({}).find_places()
    places = [*found.places, *found.listed, *found.others]
    lazy = _is_lazy(subject.target, places)
    held = replace(subject, conventions=replace(subject.conventions, lazy=lazy), places=places)
    order = order_with({o.name: o.value for o in held.operands if o.role == "parameter"}) or order
    by_return = [replace(p, returned=True) for p in (*found.listed, *found.others) if p.name in order]
    notes = [f"backward returns the gradients of {', '.join(str(name) for name in order if name is not None)}"]
    missing = [str(place) for place, name in enumerate(order) if name is None]
    if missing:
        notes.append(f"not looked at: what backward returns in place {', '.join(missing)} of {len(order)} from 0 on")
    return replace(subject, conventions=replace(held.conventions, order=order), places=by_return), tuple(notes)


def _updated_parameters(subject: LayerSubject) -> list[Place]:
    """What a backward that takes a learning rate changes of what the output depends on."""
    if not subject.conventions.call.learns:
        return []
    untouched = held_tensors(subject.run({}).layer)
    start = dict(reversed({id(v): (p, v) for p, v in reversed(untouched.items())}.values()))
    run = subject.run({})
    run.call_backward(run.ones())
    after = held_tensors(run.layer)
    fresh = held_tensors(subject.target)
    changed = [
        path
        for path, value in start.items()
        if path in fresh and path in after and after[path].shape == value.shape and not equal(after[path], value)
    ]
    inputs = role_names(subject.operands, "input")
    places = [
        Place(unused_name(".".join(map(str, path)), inputs, "self"), path, None, updated=True) for path in changed
    ]
    probe = replace(subject, places=places)
    return [place for place in places if changes_output(probe, place)]


def _with_updates(subject: LayerSubject, places: list[Place]) -> tuple[LayerSubject, tuple[str, ...]]:
    """The subject with the parameters whose update is their gradient times the rate, and a note that says so."""
    probe = replace(subject, places=places)
    run = probe.run({})
    once, twice, none = (run.backward({n: k * v for n, v in run.ones().items()}) for k in (1, 2, 0))
    plain: list[Place] = []
    others: list[Place] = []
    for place in places:
        one, two, zero = once[place.name], twice[place.name], none[place.name]
        assert one is not None and two is not None and zero is not None
        linear = torch.allclose(two, 2 * one) and not bool(zero.any())
        (plain if linear else others).append(place)
    notes = []
    if plain:
        names = ", ".join(place.name for place in plain)
        notes.append(f"backward takes a learning rate: the gradient of {names} is what it subtracts, over the rate")
    if others:
        names = ", ".join(place.name for place in others)
        notes.append(f"not looked at: {names} (backward updates it by another rule than the rate times a gradient)")
    return replace(subject, places=plain), tuple(notes)


def _is_lazy(layer: Any, places: Collection[Place]) -> bool:
    """Whether a layer that was never called lacks one of its parameters."""
    return any(not is_parameter(found_at(layer, place.value_path)) for place in places)


def _with_parameters(subject: LayerSubject, found: FoundParameters) -> tuple[LayerSubject, tuple[str, ...]]:
    """The subject with its parameters, and a note that names what else the output depends on.

    What might be no parameter at all is one only if the output changes with it. What has no gradient although the
    output changes with it, and is listed or called like a parameter, has been forgotten.
    """
    returned = [place for place in subject.places if place.returned]
    known = {id(found_at(subject.target, place.value_path)) for place in found.places}
    returned = [place for place in returned if id(found_at(subject.target, place.value_path)) not in known]
    names = {place.name for place in returned}
    listed, others = ([p for p in group if p.name not in names] for group in (found.listed, found.others))
    unsure = [*found.doubtful, *listed, *others]
    every = [*found.places, *returned, *unsure]
    subject = replace(
        subject, conventions=replace(subject.conventions, lazy=_is_lazy(subject.target, every)), places=()
    )
    probe = replace(subject, places=unsure)
    matters = {place.name: changes_output(probe, place) for place in unsure}
    places = [*(place for place in found.places if matters.get(place.name, True)), *returned]
    complete = None not in (subject.conventions.order or ())  # else a gradient may be the one that seems to be missing
    missing = [
        place
        for place in (*listed, *others)
        if matters[place.name] and places and complete and (place in listed or forgotten(place, places))
    ]
    rest = [p.name for p in (*listed, *others) if matters[p.name] and p not in missing]
    note = f"not looked at: {', '.join(rest)} (the output changes with it, and no gradient of it was found)"
    return replace(subject, places=[*places, *missing]), (note,) if rest else ()


def changes_output(subject: LayerSubject, place: Place) -> bool:
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
    if not places or any(place.returned or place.updated for place in subject.places):
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
        if start is None or single is None or total is None or not start.shape == total.shape == single.shape:
            continue
        # Closer to their sum than to the gradient alone.
        added.append(bool(((total - single - start).abs() < (total - single).abs()).any()))
    names = ", ".join(alone)
    if added and all(added):
        return True, (f"backward adds to the gradients of {names}",)
    if any(added):
        return True, (f"backward adds to some gradients of {names} and overwrites others",)
    return False, (f"backward overwrites the gradients of {names}",)
