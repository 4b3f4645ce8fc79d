"""Tensors that a callable holds in a closure or a global, found at the leaves of the autograd graph."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


def graph_clock() -> int:
    """The sequence number that the next node of this thread's autograd graph will exceed or equal."""
    with torch.enable_grad():
        probe = torch.zeros((), requires_grad=True).view(())
    assert probe.grad_fn is not None
    return int(probe.grad_fn._sequence_nr())


def captured_leaves(outputs: Iterable[Tensor], known: Iterable[Tensor], since: int) -> tuple[list[Tensor], bool]:
    """The leaves that outputs depend on, without the known ones, in the order in which the graph meets them.

    Args:
        outputs: what the callable returned.
        known: its differentiable inputs.
        since: `graph_clock()` before the call. Nodes that are older belong to tensors that were computed
            before it; putting another value into the leaves behind those would not change the callable's
            result.

    Returns:
        The leaves, and whether such older nodes were met.
    """
    known_ids = {id(tensor) for tensor in known}
    found: dict[int, Tensor] = {}
    older = False
    stack: list[Any] = [output.grad_fn for output in outputs if output.grad_fn is not None]
    seen: set[Any] = set(stack)
    while stack:
        node = stack.pop()
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            if id(variable) not in known_ids:
                found[id(variable)] = variable
            continue
        if node._sequence_nr() < since:
            older = True
            continue
        for following, _ in reversed(node.next_functions):
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)
    return list(found.values()), older


def name_captured(function: object, tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """Names for captured tensors: their variable in the closure or the globals, else `"captured0"`, ..."""
    names: dict[int, str] = {}
    for name, value in _reachable(function).items():
        if isinstance(value, Tensor):
            names.setdefault(id(value), name)
        elif hasattr(value, "__dict__") and not inspect.ismodule(value) and not callable(value):
            for attribute, inner in vars(value).items():
                if isinstance(inner, Tensor):
                    names.setdefault(id(inner), f"{name}.{attribute}")
    result: dict[str, Tensor] = {}
    for place, tensor in enumerate(tensors):
        name = names.get(id(tensor), f"captured{place}")
        result[name if name not in result else f"captured{place}"] = tensor
    return result


def _reachable(function: object) -> Mapping[str, object]:
    owner = getattr(function, "__self__", None)
    own: dict[str, object] = dict(vars(owner)) if hasattr(owner, "__dict__") and not inspect.isclass(owner) else {}
    if not inspect.isfunction(function) and hasattr(function, "__dict__"):
        own |= vars(function)
    try:
        variables = inspect.getclosurevars(function)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return own
    return {**variables.globals, **variables.nonlocals, **own}
