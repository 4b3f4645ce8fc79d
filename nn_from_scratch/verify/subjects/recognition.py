"""Which form a subject is in."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Subject, SubjectOptions
from nn_from_scratch.verify.subjects.arguments import Arguments, argument_names
from nn_from_scratch.verify.subjects.autograd import adapt_function
from nn_from_scratch.verify.subjects.engine import EngineModule, adapt_engine
from nn_from_scratch.verify.subjects.layer_adaptation import adapt_layer
from nn_from_scratch.verify.subjects.layer_object import forward_of
from nn_from_scratch.verify.subjects.pair import adapt_pair
from nn_from_scratch.verify.subjects.structure import describe
from nn_from_scratch.verify.subjects.torch_module import adapt_module

__all__ = ["FORMS", "as_subject"]

FORMS: Mapping[str, str] = {
    "engine module": "an object with backward(g), parameters() -> dictionary and clear_saved_tensors()",
    "torch module": "a torch.nn.Module",
    "autograd": "a torch.autograd.Function, its .apply, or a callable on tensors that autograd differentiates",
    "pair": "a tuple (forward, backward) of functions on tensors or NumPy arrays",
    "layer object": "an object with forward(x) or __call__, and backward(dy) that returns the input's gradient",
}


def as_subject(
    obj: object,
    *inputs: object,
    **options: Any,
) -> Subject:
    """Bring something with a hand-written backward into the shape that the verifier works with.

    Args:
        obj: the subject, in one of the `FORMS`; what follows the protocol already is returned as it is.
        inputs: what to call it with: tensors or arrays of any shape and dtype, other values, and nested
            tuples, lists and dictionaries of these.
        options: the fields of `SubjectOptions`.

    Returns:
        The subject. It holds copies of the inputs, and never changes them.

    Raises:
        SubjectError: the subject is in none of the forms, or its forward raises or returns no tensor.
        ArgumentError: an argument names an input that is not there, or two inputs have one name.
    """
    if isinstance(obj, Subject):
        return obj
    given = SubjectOptions(**options)
    recognised = given.form if given.form is not None else _form_of(obj)
    if recognised is None or recognised not in FORMS:
        found = _found(obj) if given.form is None else f"form={given.form!r}"
        known = "; ".join(f"{key}: {text}" for key, text in FORMS.items())
        raise SubjectError(f"the subject is {found}, but these forms are known: {known}")
    label = given.name if given.name is not None else _name_of(obj)
    for option, owner in (("parameters", "autograd"), ("mapping", "layer object"), ("cache", "pair")):
        if getattr(given, option) is not None and recognised != owner:
            raise SubjectError(
                f"{option}= is for subjects of the form {owner!r}, but {label} is of the form {recognised!r}"
            )
    called, skip = _signature(obj, recognised)
    arguments = Arguments(
        inputs,
        given.keywords or {},
        names=given.names if given.names is not None else argument_names(called, len(inputs), skip=skip),
        differentiable=given.differentiable,
        subject=label,
    )
    if recognised == "engine module":
        return adapt_engine(obj, arguments, name=label)  # type: ignore[arg-type]
    if recognised == "torch module":
        return adapt_module(obj, arguments, name=label)  # type: ignore[arg-type]
    if recognised == "pair":
        pair: Any = obj
        return adapt_pair(pair[0], pair[1], arguments, target=obj, name=label, cache=given.cache)
    if recognised == "layer object":
        return adapt_layer(obj, arguments, name=label, mapping=given.mapping)
    function_class = _function_class(obj)
    function: Any = obj if function_class is None else function_class.apply
    return adapt_function(function, arguments, target=obj, name=label, parameters=given.parameters)


def _function_class(obj: object) -> type[torch.autograd.Function] | None:
    """The `torch.autograd.Function` subclass that an object is, or is the `apply` of."""
    for candidate in (obj, getattr(obj, "__self__", None)):
        if isinstance(candidate, type) and issubclass(candidate, torch.autograd.Function):
            return candidate
    return None


def _form_of(obj: object) -> str | None:
    if _function_class(obj) is not None:
        return "autograd"
    if isinstance(obj, type):
        return None
    if isinstance(obj, nn.Module):
        return "torch module"
    if isinstance(obj, tuple | list):
        return "pair" if len(obj) == 2 and all(callable(part) for part in obj) else None
    if callable(getattr(obj, "backward", None)):
        if isinstance(obj, EngineModule) and isinstance(obj.parameters(), Mapping):
            return "engine module"
        if callable(getattr(obj, "forward", None)) or callable(obj):
            return "layer object"
        return None
    return "autograd" if callable(obj) else None


def _signature(obj: Any, form: str) -> tuple[object, int]:
    """The callable whose signature names the inputs, and how many of its arguments are not inputs."""
    owner = _function_class(obj)
    if owner is not None:
        # Without setup_context the first argument of forward is the context.
        separate = owner.setup_context is not torch.autograd.Function.setup_context
        return owner.forward, 0 if separate else 1
    if form == "pair":
        return obj[0], 0
    if form == "autograd":
        return obj, 0
    return forward_of(obj), 0


def _name_of(obj: Any) -> str:
    owner = _function_class(obj)
    if owner is not None:
        return owner.__name__
    if isinstance(obj, tuple | list):
        return " / ".join(_name_of(part) for part in obj)
    if isinstance(obj, functools.partial):
        return _name_of(obj.func)
    plain = inspect.isroutine(obj) or isinstance(obj, type)
    return str(getattr(obj, "__name__", type(obj).__name__)) if plain else type(obj).__name__


def _found(obj: object) -> str:
    if isinstance(obj, type):
        return f"the class {obj.__name__} (make an object of it first)"
    if isinstance(obj, tuple | list):
        return f"{describe(obj)} of {', '.join(type(part).__name__ for part in obj) or 'nothing'}"
    methods = [m for m in ("forward", "backward", "__call__", "parameters") if callable(getattr(obj, m, None))]
    return f"{describe(obj)} with {', '.join(methods) or 'no method that is known here'}"
