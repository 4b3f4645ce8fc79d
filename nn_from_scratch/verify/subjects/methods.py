"""What an object calls its forward and its backward."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nn_from_scratch.errors import ArgumentError

# Names that go together, the commonest first; "__call__" is calling the object.
_PAIRS = (
    ("forward", "backward"),
    ("__call__", "backward"),
    ("forward", "backprop"),
    ("forward_pass", "backward_pass"),
    ("forward_prop", "backward_prop"),
    ("forward_propagation", "backward_propagation"),
    ("forward_propagate", "backward_propagate"),
    ("forwards", "backwards"),
    ("fprop", "bprop"),
    ("fwd", "bwd"),
    ("feedforward", "backprop"),
    ("propagate", "backpropagate"),
    ("fn", "grad"),
    ("f", "df"),
    ("func", "dfunc"),
    ("function", "derivative"),
    ("function", "gradient"),
    ("activate", "derivative"),
    ("activation", "derivative"),
    ("loss", "grad"),
    ("loss", "gradient"),
    ("loss", "derivative"),
    ("forward", "derivative"),
    ("forward", "gradient"),
    ("forward", "grad"),
    ("forward", "prime"),
    ("__call__", "derivative"),
    ("__call__", "gradient"),
    ("__call__", "grad"),
    ("__call__", "prime"),
)
# What stands before or after the name of a forward in that of its backward.
_BEFORE = ("revert_", "backward_", "back_", "grad_", "d_", "d")
_AFTER = ("_backward", "_back", "_bwd", "_grad", "_gradient", "_derivative", "_deriv", "_prime")
_DERIVATIVE = re.compile(r"grad|deriv|prime|^d")


@dataclass(frozen=True)
class Methods:
    """The names of an object's forward and backward."""

    forward: str
    backward: str

    @property
    def derivative(self) -> bool:
        """Whether the backward is called a derivative, so that its argument may be the input."""
        return is_derivative_name(self.backward)

    def forward_of(self, obj: Any) -> Any:
        """The object's forward."""
        return obj if self.forward == "__call__" else getattr(obj, self.forward)

    def backward_of(self, obj: Any) -> Any:
        """The object's backward."""
        return getattr(obj, self.backward)


def is_derivative_name(name: str) -> bool:
    """Whether a function is called a derivative."""
    return _DERIVATIVE.search(name) is not None and "back" not in name


def find_methods(obj: Any, mapping: Mapping[str, str] | None = None) -> Methods | None:
    """What an object calls its forward and its backward, or what a mapping says; None if neither does.

    Raises:
        ArgumentError: the mapping names a method that the object lacks.
    """
    named = {role: mapping[role] for role in ("forward", "backward") if mapping and role in mapping}
    for role, method in named.items():
        if not callable(getattr(obj, method, None)):
            raise ArgumentError(f"mapping calls the {role} {method!r}, but {_methods_of(obj)} are its methods.")
    if len(named) == 2:
        return Methods(named["forward"], named["backward"])
    for forward, backward in (*_PAIRS, *_composed(obj)):
        fits = all({"forward": forward, "backward": backward}[role] == method for role, method in named.items())
        if fits and _has(obj, forward) and _has(obj, backward):
            return Methods(forward, backward)
    if "backward" in named and callable(obj):
        return Methods("forward" if _has(obj, "forward") else "__call__", named["backward"])
    return None


def _has(obj: Any, name: str) -> bool:
    return callable(obj) if name == "__call__" else callable(getattr(obj, name, None))


def own_methods(obj: Any) -> list[str]:
    """The public methods that an object's class, or a class itself, defines in Python."""
    cls = obj if isinstance(obj, type) else type(obj)
    plain = (types.FunctionType, staticmethod, classmethod)
    found = {name: held for base in reversed(cls.__mro__) for name, held in vars(base).items()}
    return [name for name, held in found.items() if name[0] != "_" and isinstance(held, plain)]


def _methods_of(obj: Any) -> str:
    return ", ".join(own_methods(obj)) or "none at all"


def _composed(obj: Any) -> list[tuple[str, str]]:
    """The methods of which one is called after the other, such as `upsample` and `revert_upsample`, if only two are."""
    methods = dict.fromkeys(own_methods(obj))  # a module of torch has some sixty, each of which is looked up often
    found = [
        (name, other)
        for name in methods
        for other in (*(before + name for before in _BEFORE), *(name + after for after in _AFTER))
        if other in methods
    ]
    return found if len(found) == 1 else []


def is_static(obj: Any, methods: Methods) -> bool:
    """Whether forward and backward are functions that need no object."""
    return all(
        isinstance(inspect.getattr_static(obj, name, None), staticmethod)
        for name in (methods.forward, methods.backward)
    )


def is_plain_object(obj: Any) -> bool:
    """Whether something is an object of somebody's class, not a function, a method, a module or a class."""
    return not (isinstance(obj, type) or inspect.isroutine(obj) or inspect.ismodule(obj))
