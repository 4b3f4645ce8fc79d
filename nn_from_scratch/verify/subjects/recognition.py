"""The forms of subjects: where they register, and which one an object is in."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify.protocol import Subject, SubjectOptions
from nn_from_scratch.verify.subjects.call_arguments import Arguments, argument_names, differentiable_names
from nn_from_scratch.verify.subjects.complex_pairs import with_pairs
from nn_from_scratch.verify.subjects.methods import find_methods, is_plain_object, own_methods
from nn_from_scratch.verify.subjects.structure import describe

Adapter = TypeVar("Adapter", bound=Callable[..., Subject])

FORMS: dict[str, Form] = {}
"""The forms by name, in the order in which they are tried."""


def forward_of(obj: Any) -> Any:
    """What an object calls its forward, or the object itself where it is called instead."""
    forward = getattr(obj, "forward", None)
    if callable(forward):
        return forward
    methods = find_methods(obj)
    return obj if methods is None else methods.forward_of(obj)


def plain_name(obj: Any) -> str:
    """The name of a function or class, or of the class of an object."""
    if isinstance(obj, functools.partial):
        return plain_name(obj.func)
    plain = inspect.isroutine(obj) or isinstance(obj, type)
    return str(getattr(obj, "__name__", type(obj).__name__)) if plain else type(obj).__name__


@dataclass
class Form:
    """One form in which people write a backward; it decorates the adapter, which it registers.

    The adapter gives the subject, from the object, its `Arguments` and its name by keyword. Its further keywords
    are the options of `as_subject` that the form takes.

    Attributes:
        name: What reports call it.
        description: What an object in this form is, for the message that lists the forms.
        order: Its place among the forms; an object is in the first one that accepts it.
        accepts: Whether an object is in this form.
        signature: The callable whose signature names the inputs, and how many of its arguments come before them.
        label: What messages call an object.

    Raises:
        ArgumentError: there is a form of that name already.
    """

    name: str
    description: str
    order: float = field(kw_only=True)
    accepts: Callable[[Any], bool] = field(kw_only=True)
    signature: Callable[[Any], tuple[object, int]] = field(kw_only=True, default=lambda obj: (forward_of(obj), 0))
    label: Callable[[Any], str] = field(kw_only=True, default=plain_name)

    def __call__(self, adapt: Adapter) -> Adapter:
        if self.name in FORMS:
            raise ArgumentError(f"the form is called {self.name!r}, but a name that no other one has is expected")
        self.adapt: Callable[..., Subject] = adapt
        parameters = inspect.signature(adapt).parameters.values()
        self.options = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"name"}
        FORMS[self.name] = self
        for form in sorted(FORMS.values(), key=lambda form: form.order):
            FORMS[form.name] = FORMS.pop(form.name)
        return adapt


def as_subject(obj: object, *inputs: object, **options: Any) -> Subject:
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
    if hasattr(obj, "backward_together") and isinstance(obj, Subject):  # a protocol is slow to tell
        return obj
    given = SubjectOptions(**options)
    methods = find_methods(obj, given.mapping) if given.mapping and is_plain_object(obj) else None
    if given.form is not None:
        form = FORMS.get(given.form)
    elif methods is not None and given.mapping and {"forward", "backward"} & given.mapping.keys():
        form = FORMS["layer object"]
    else:
        form = next((known for known in FORMS.values() if known.accepts(obj)), None)
    if form is None:
        forms = "; ".join(f"{known.name}: {known.description}" for known in FORMS.values())
        what = _describe(obj) if given.form is None else f"form={given.form!r}"
        raise SubjectError(f"the subject is {what}, but these forms are known: {forms}")
    label = given.name if given.name is not None else form.label(obj)
    of_one_form = {option: getattr(given, option) for option in ("parameters", "mapping", "cache")}
    for_form = {option: value for option, value in of_one_form.items() if value is not None}
    for option in for_form.keys() - form.options:
        owner = next(known.name for known in FORMS.values() if option in known.options)
        raise SubjectError(f"{option}= is for subjects of the form {owner!r}, but {label} is of the form {form.name!r}")
    called, skip = form.signature(obj) if methods is None else (methods.forward_of(obj), 0)

    def arguments_with(differentiable: Collection[str] | None) -> Arguments:
        return Arguments(
            inputs,
            given.keywords or {},
            names=given.names if given.names is not None else argument_names(called, len(inputs), skip=skip),
            differentiable=differentiable,
            subject=label,
        )

    arguments, refused = arguments_with(given.differentiable), ""
    try:
        subject: Any = form.adapt(obj, arguments, name=label, **for_form)
    except SubjectError:
        asked = given.differentiable is not None or any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
        names = differentiable_names(arguments.operands)
        if asked or len(names) < 2 or form.name not in ("autograd", "torch module"):
            raise
        # The losses of torch refuse to differentiate their targets, which nobody asked for.
        for refused in reversed(names):
            arguments = arguments_with([name for name in names if name != refused])
            with contextlib.suppress(SubjectError):
                subject = form.adapt(obj, arguments, name=label, **for_form)
                break
        else:
            raise
    held = [f"{name} {what}; it is held constant" for name, what in arguments.held.items()]
    if refused:
        held.append(f"{refused} is held constant: the forward refuses to be differentiated by it")
    subject.notes = (*subject.notes, *held)
    return with_pairs(cast(Subject, subject))


def call_names(obj: object, count: int) -> list[str]:
    """What the first arguments of a subject's forward are called; `"input0"`, ... where it does not say."""
    form = next((known for known in FORMS.values() if known.accepts(obj)), None)
    called, skip = (obj, 0) if form is None else form.signature(obj)
    return argument_names(called, count, skip=skip)


def _describe(obj: object) -> str:
    """A few words about an object in no form."""
    if isinstance(obj, type):
        return f"the class {obj.__name__} (make an object of it first)"
    if isinstance(obj, tuple | list):
        return f"{describe(obj)} of {', '.join(type(part).__name__ for part in obj) or 'nothing'}"
    methods = own_methods(obj)
    if not methods or isinstance(obj, Tensor | np.ndarray):
        return describe(obj)
    hint = 'say which are its passes, as in mapping={"forward": ' + f'"{methods[0]}", "backward": "{methods[-1]}"' + "}"
    return f"{describe(obj)} with the methods {', '.join(methods)} ({hint})"
