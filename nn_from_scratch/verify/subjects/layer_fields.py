"""Layers whose passes return nothing: the output and the gradients of the inputs are in attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from nn_from_scratch.verify.subjects.reachable import is_parameter

# What the output, and the gradient of the only input, are called.
_OUTPUTS = ("output", "outputs", "out", "y", "result", "activation", "activations", "a", "z", "h")
_GRADIENTS = (
    "dinputs",
    "dinput",
    "dx",
    "dX",
    "grad_input",
    "grad_inputs",
    "grad_x",
    "input_grad",
    "input_gradient",
    "gradwrtinput",
)


def output_field(before: Mapping[str, object], layer: Any, handed: Sequence[object]) -> str | None:
    """The attribute in which a forward has left its output; None if it is not clear.

    Args:
        before: the layer's attributes before the forward.
        layer: the layer after it.
        handed: what the forward was called with, which it may have kept too.
    """
    made = [
        name
        for name, value in vars(layer).items()
        if isinstance(value, Tensor | np.ndarray | np.floating | float)
        and value is not before.get(name)
        and not any(value is given for given in handed)
    ]
    called = [name for name in _OUTPUTS if name in made]
    return (called or made)[0] if called or len(made) == 1 else None


def gradient_fields(layer: Any, inputs: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """The attributes in which a backward has left the gradients of its inputs, by the name of the input."""
    held = getattr(layer, "__dict__", {})
    found = {}
    for name in wanted:
        own = (f"d{name}", f"d_{name}", f"grad_{name}", f"{name}_grad")
        names = (*own, *_GRADIENTS) if len(inputs) == 1 or name == inputs[0] else own
        field = next((field for field in names if is_parameter(held.get(field))), None)
        if field is not None:
            found[name] = field
    return found
