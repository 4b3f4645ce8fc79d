"""The inputs of a subject: which tensors are in them, their names, and a call with other values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify.protocol import Operand
from nn_from_scratch.verify.subjects.structure import dense, leaves, snapshot, with_leaves

__all__ = ["Arguments", "argument_names"]


def argument_names(function: object, count: int, *, skip: int = 0) -> list[str]:
    """What a function calls its first `count` positional arguments; `"input0"`, ... where it does not say."""
    named: list[str] = []
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        parameters = []
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            break
        named.append(parameter.name)
    return [named[i] if i < len(named) else f"input{i}" for i in range(count)]


class Arguments:
    """Positional and keyword arguments, with every tensor or array in them a named slot.

    Args:
        inputs: positional arguments; tensors, arrays, other values, and nested tuples, lists, dictionaries of
            them.
        keywords: arguments by name.
        names: what to call the positional ones.
        differentiable: names of the operands to differentiate; None for those that require grad, or, where none
            does, for all real floating-point ones.
        subject: its name, for messages.

    Raises:
        ArgumentError: `names` has another length than `inputs`, or `differentiable` names no such input.
        SubjectError: a tensor is not dense, or an array has a dtype that torch lacks.
    """

    def __init__(
        self,
        inputs: Sequence[object],
        keywords: Mapping[str, object],
        *,
        names: Sequence[str],
        differentiable: Collection[str] | None,
        subject: str,
    ) -> None:
        if len(names) != len(inputs):
            raise ArgumentError(f"names has {len(names)} entries for {len(inputs)} inputs; give one for each")
        self._inputs = tuple(zip(names, inputs, strict=True))
        self._keywords = dict(keywords)
        found: dict[str, object] = {}
        for name, tree in (*self._inputs, *self._keywords.items()):
            for leaf_name, leaf in leaves(tree, name):
                if isinstance(leaf, Tensor | np.ndarray):
                    if leaf_name in found:
                        raise ArgumentError(f"two inputs are called {leaf_name!r}; give names= that differ")
                    found[leaf_name] = leaf
        self.arrays = frozenset(name for name, leaf in found.items() if isinstance(leaf, np.ndarray))
        tensors = {name: self._tensor(name, leaf, subject) for name, leaf in found.items()}
        self.operands = _slots(tensors, differentiable)

    @staticmethod
    def _tensor(name: str, leaf: object, subject: str) -> Tensor:
        if isinstance(leaf, Tensor):
            return dense(leaf, name, subject)
        try:
            return torch.from_numpy(np.ascontiguousarray(leaf)).reshape(np.shape(leaf))  # type: ignore[call-overload]
        except TypeError as error:
            raise SubjectError(f"{name} of {subject} is an array that torch cannot hold: {error}") from error

    def call(self, function: Callable[..., Any], values: Mapping[str, object]) -> object:
        """Call a function with these arguments, the operands replaced by `values`."""

        def replace(name: str, leaf: object) -> object:
            return values.get(name, leaf)

        return function(
            *(with_leaves(tree, name, replace) for name, tree in self._inputs),
            **{name: with_leaves(tree, name, replace) for name, tree in self._keywords.items()},
        )


def _slots(tensors: Mapping[str, Tensor], differentiable: Collection[str] | None) -> tuple[Operand, ...]:
    if differentiable is not None:
        for name in differentiable:
            if name not in tensors:
                raise ArgumentError(
                    f"differentiable names {name!r}, but the inputs are {', '.join(tensors) or 'none'}; name "
                    "some of them"
                )
    asked = {name for name, tensor in tensors.items() if tensor.requires_grad}
    operands = []
    for name, tensor in tensors.items():
        real = tensor.is_floating_point()
        if differentiable is not None:
            if name in differentiable and not real:
                raise ArgumentError(
                    f"differentiable names {name!r}, which has dtype {tensor.dtype}; only real "
                    "floating-point tensors "
                    "have a gradient here"
                )
            wanted = name in differentiable
        else:
            wanted = real and (not asked or name in asked)
        operands.append(
            Operand(
                name=name,
                role="input",
                differentiable=wanted,
                required=wanted and (differentiable is not None or bool(asked)),
                value=snapshot(tensor, offset=False),
            )
        )
    return tuple(operands)
