"""A subject's counterparts in torch: a class of torch.nn or a function, called with the subject's own options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


# Where and how a subject is made, which its counterpart is not told.
_PLACEMENT = {"device", "dtype", "generator"}


def constructor_options(made: type) -> dict[str, inspect.Parameter]:
    """The arguments of a class's constructor by name; one with `**options` passes them to the next class's."""
    found: dict[str, inspect.Parameter] = {}
    for owner in made.__mro__:
        if "__init__" not in vars(owner):
            continue
        parameters = list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]
        for parameter in parameters:
            found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return {
        name: parameter
        for name, parameter in found.items()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }


def options_from(source: Any, made: type, attributes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The arguments of a constructor that are attributes of an object, which may be of another class.

    An argument that is a bool by default, where the attribute is a tensor or None, says whether the tensor is there.

    Args:
        made: the class whose constructor is to be called.
        attributes: for an argument that is not the attribute of its own name, which one it is, with dots.
    """
    found = {}
    for name, parameter in constructor_options(made).items():
        try:
            value = attrgetter((attributes or {}).get(name, name))(source)
        except AttributeError:
            continue
        if isinstance(parameter.default, bool) and not isinstance(value, bool):
            value = value is not None
        if name not in _PLACEMENT:
            found[name] = tuple(value) if isinstance(value, list) else value
    return found


def with_subject(
    reference: Callable[..., Any] | None, twin: Any, attributes: Mapping[str, str]
) -> Callable[..., Any] | None:
    """The reference in the one form that is called with the subject, its parameters by name, and the inputs.

    Args:
        reference: in that form already, or a function of torch, which takes the inputs and the subject's options.
        twin: a class of torch.nn, the reference where there is no other.
        attributes: as in `options_from`.
    """

    def call_function(subject: Any, parameters: Mapping[str, Tensor], *inputs: Any, **options: Any) -> Any:
        assert reference is not None
        # A class, such as an autograd.Function, is not an object with options: they are passed after the inputs.
        own = {} if isinstance(subject, type) else options_from(subject, type(subject), attributes)
        return reference(*inputs, **own, **options)

    def call_twin(subject: Any, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Any:
        import torch

        with torch.device("meta"):  # initial values are neither drawn nor kept
            module = twin(**options_from(subject, twin, attributes))
        module.train(getattr(subject, "training", True))
        # Copies, because a forward pass in training mode changes running statistics.
        buffers = {name: attrgetter(name)(subject).clone() for name, _ in module.named_buffers()}
        return torch.func.functional_call(module, {**buffers, **parameters}, inputs)

    if reference is None:
        return None if twin is None else call_twin
    # The functions that torch compiles have its name as their module too.
    return call_function if str(getattr(reference, "__module__", None)).partition(".")[0] == "torch" else reference
