"""The operands of a subject: the tensors among its arguments and its parameters, and calls with other values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify.protocol import Operand, Role, Values
from nn_from_scratch.verify.subjects.structure import dense, is_freed, leaves, snapshot, unusual, with_leaves


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


def parameter_operand(name: str, tensor: Tensor, subject: str, *, frozen: bool = False) -> Operand:
    """The operand of a parameter, whose gradient is wanted unless it is frozen or a tensor of integers.

    Raises:
        SubjectError: the tensor is not dense.
    """
    wanted = takes_part(tensor) and not frozen
    value = snapshot(dense(tensor, name, subject), offset=False)
    return Operand(name=name, role="parameter", differentiable=wanted, required=wanted, value=value)


def takes_part(tensor: Tensor) -> bool:
    """Whether a tensor can have a gradient: one of floating-point or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def role_names(operands: Iterable[Operand], role: Role) -> list[str]:
    """The names of the operands in that role."""
    return [operand.name for operand in operands if operand.role == role]


def differentiable_names(operands: Iterable[Operand]) -> list[str]:
    """The names of the operands that have a gradient."""
    return [operand.name for operand in operands if operand.differentiable]


def private_values(operands: Iterable[Operand], values: Values) -> dict[str, Tensor]:
    """Copies of the values, and of the starting values of the operands that have none, with their layout."""
    return {operand.name: snapshot(values.get(operand.name, operand.value)) for operand in operands}


def placement(operands: Iterable[Operand], tensors: Values) -> tuple[torch.dtype | None, torch.device | None]:
    """Where constants must go: where the values went that left their starting value's dtype or device."""
    dtype: torch.dtype | None = None
    device: torch.device | None = None
    for operand in operands:
        tensor, start = tensors[operand.name], operand.value
        device = tensor.device if tensor.device != start.device else device
        if takes_part(start) and tensor.dtype != start.dtype:
            dtype = tensor.dtype if tensor.is_floating_point() else tensor.dtype.to_real()
    return dtype, device


def unused_name(name: str, taken: Collection[str], prefix: str) -> str:
    """The name, with a prefix if it is taken."""
    return f"{prefix}.{name}" if name in taken else name


class Arguments:
    """Positional and keyword arguments; every tensor or array in them is a named operand.

    Args:
        inputs: positional arguments; tensors, arrays, other values, and nested tuples, lists, dictionaries of
            them.
        keywords: arguments by name.
        names: what to call the positional ones.
        differentiable: names of the operands to differentiate; None for those that require grad, or, where none
            does, for all floating-point and complex ones.
        subject: its name, for messages.

    Attributes:
        held: what was left as it is, because nothing can be calculated with it (sparse or quantized, for example), and
            why.

    Raises:
        ArgumentError: `names` has another length than `inputs`, or `differentiable` names no such input.
        SubjectError: a tensor whose gradient is asked for is not dense, or an array has a dtype that torch lacks.
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
            raise ArgumentError(f"names has {len(names)} entries, but one for each of {len(inputs)} inputs is expected")
        self._inputs = tuple(zip(names, inputs, strict=True))
        self._keywords = dict(keywords)
        found: dict[str, object] = {}
        self.held: dict[str, str] = {}
        for name, tree in (*self._inputs, *self._keywords.items()):
            for leaf_name, leaf in leaves(tree, name):
                if isinstance(leaf, Tensor | np.ndarray):
                    if leaf_name in found:
                        raise ArgumentError(f"names calls two inputs {leaf_name!r}, but different names are expected")
                    if isinstance(leaf, Tensor) and is_freed(leaf):
                        raise SubjectError(f"{leaf_name} of {subject} has no values: the memory behind it was freed")
                    what = unusual(leaf) if isinstance(leaf, Tensor) and not leaf.requires_grad else None
                    if what is None or leaf_name in (differentiable or ()):
                        found[leaf_name] = leaf
                    else:
                        self.held[leaf_name] = what
        self.arrays = frozenset(name for name, leaf in found.items() if isinstance(leaf, np.ndarray))
        tensors = {name: self._tensor(name, leaf, subject) for name, leaf in found.items()}
        self.operands = _input_operands(tensors, differentiable)

    @staticmethod
    def _tensor(name: str, leaf: object, subject: str) -> Tensor:
        if isinstance(leaf, Tensor):
            if type(leaf) not in (Tensor, torch.nn.Parameter):
                # A subclass wraps what its operations return, so that its leaves have no place in the graph.
                leaf = leaf.detach().as_subclass(Tensor).requires_grad_(leaf.requires_grad)
            return dense(leaf, name, subject)
        array = np.asarray(leaf)
        try:
            native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))
            return torch.from_numpy(native).reshape(array.shape)
        except TypeError as error:
            raise SubjectError(f"{name} of {subject} is an array that torch cannot hold: {error}") from error

    def call(self, function: Callable[..., Any], values: Mapping[str, object]) -> object:
        """Call a function with these arguments, the operands replaced by `values`."""
        return function(
            *(with_leaves(tree, name, values.get) for name, tree in self._inputs),
            **{name: with_leaves(tree, name, values.get) for name, tree in self._keywords.items()},
        )


def _input_operands(tensors: Mapping[str, Tensor], differentiable: Collection[str] | None) -> tuple[Operand, ...]:
    for name in differentiable or ():
        if name not in tensors:
            known = ", ".join(tensors) or "none at all"
            raise ArgumentError(f"differentiable names {name!r}, but some of the inputs ({known}) are expected")
        if not takes_part(tensors[name]):
            dtype = tensors[name].dtype
            raise ArgumentError(
                f"differentiable names {name!r} of {dtype}, but a floating-point or complex tensor is expected"
            )
    asked = differentiable
    if asked is None:
        asked = {name for name, tensor in tensors.items() if tensor.requires_grad} or None
    operands = []
    for name, tensor in tensors.items():
        wanted = takes_part(tensor) and (asked is None or name in asked)
        operands.append(
            Operand(
                name=name,
                role="input",
                differentiable=wanted,
                required=wanted and asked is not None,
                value=snapshot(tensor, offset=False),
            )
        )
    return tuple(operands)
