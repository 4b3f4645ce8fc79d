"""Which operand each gradient belongs to that a backward returns, where there is not one for each input."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.subjects.backward_arguments import trained_input
from nn_from_scratch.verify.subjects.structure import describe, leaves

_AROUND = re.compile(r"^(grad(ient)?_?|d_?(l_?d)?|delta_?|g_?)|(_?grad(ient)?)$", re.IGNORECASE)


def gradient_order(
    returned: object,
    inputs: Sequence[str],
    wanted: Sequence[str],
    asked: Sequence[str],
    backward: Callable[..., Any],
    parameters: Mapping[str, Tensor],
    name: str,
    *,
    loss: bool,
) -> tuple[str | None, ...] | None:
    """The operands in the order of the gradients; None if there is one for each input, as there should be.

    Args:
        returned: what the backward returned.
        inputs: the names of the inputs.
        wanted: those of them that can have a gradient.
        asked: those of them whose gradients somebody asked for by name.
        backward: the function itself, whose source may name what it returns.
        parameters: what the layer holds and may have gradients for, by name.
        name: of the subject, for messages.
        loss: whether the output is one number, so that one gradient may be that of the prediction alone.

    Raises:
        SubjectError: gradients were asked for that are not returned.
    """
    if returned is None:
        return None
    if isinstance(returned, Mapping):
        called = [str(key) for key in returned]
        if all(_named(label, inputs) or label in inputs for label in called):
            return None
        return tuple(_named(label, {*wanted, *parameters}) for label in called)
    parts = [part for _, part in leaves(returned, "")]
    if len(parts) in (len(inputs), len(wanted)):
        return None
    shapes = [tuple(part.shape) if isinstance(part, Tensor | np.ndarray | np.generic) else None for part in parts]
    if len(parts) == 1 and loss:
        if len(asked) > 1:
            raise SubjectError(
                f"backward of {name} returned one gradient ({describe(parts[0])}), but those of {', '.join(asked)} "
                f"were asked for; differentiable=[{trained_input(asked)!r}] says which one it is"
            )
        return (trained_input(wanted),)
    if len(parts) < len(wanted):
        return None
    called = returned_names(backward, len(parts))
    known = {**dict.fromkeys(wanted), **parameters}
    order: list[str | None] = [_named(label, known) for label in called] if called else [None] * len(parts)
    if wanted and wanted[0] not in order:
        places = [i for i, label in enumerate(order) if label is None]
        order[(places or [0])[0]] = wanted[0]
    for i, label in enumerate(order):
        if label is None and shapes[i] is not None:
            alike = [n for n, value in parameters.items() if tuple(value.shape) == shapes[i] and n not in order]
            same = [j for j, shape in enumerate(shapes) if shape == shapes[i] and order[j] is None]
            if len(alike) == len(same) == 1:
                order[i] = alike[0]
    return tuple(order)


def returned_names(backward: Callable[..., Any], count: int) -> list[str]:
    """What the source of a function calls each of the things that it returns; empty if it cannot be told."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(backward)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return []
    found = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    tuples = [value.elts for value in found if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == count]
    if len(tuples) != 1:
        return []
    return [_identifier(element) for element in tuples[0]]


def _identifier(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _named(label: str, known: Collection[str]) -> str | None:
    """The operand whose gradient is called this."""
    plain = _AROUND.sub("", label)
    fits = [name for name in known if plain and name.rsplit(".", 1)[-1].lower() == plain.lower()]
    return fits[0] if len(fits) == 1 else None
