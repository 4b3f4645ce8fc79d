"""The short way to an operator: torch's own Python function for it, where that leads to just this operator.

An operator that is called as an object (`torch.ops.aten.add.Tensor`) has its arguments boxed one by one, which takes
two to four times as long as the binding that `torch.add` is. With small batches that is felt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nn_from_scratch.engine.capture.recording import Call, Overload

#: Where bindings are found, by the name of the operator.
_PLACES = (torch._C._VariableFunctions, torch._C.TensorBase, torch._C._nn)


def shortest_way(
    function: Overload, arguments: Sequence[Any], options: Mapping[str, Any], result: Any
) -> Callable[..., Any]:
    """What can be called in the place of an operator, with the same effect for arguments like these.

    A binding chooses among the overloads of a name and may take several steps, so it is tried, without anything being
    computed: it is taken if it asks for this operator with these arguments, and for nothing else. (Some detach what
    they give from autograd, which does nothing to a value.)

    Args:
        function: the operator.
        arguments, options: as in the call.
        result: what the call gives.
    """
    expected = _complete(function, arguments, options)
    for binding in _bindings(function):
        probe = _Probe(result)
        try:
            with torch.inference_mode(), probe:  # as the program is run
                binding(*arguments, **options)
        except (TypeError, RuntimeError):  # it takes other arguments than the operator does
            continue
        asked = [(f, given) for f, given in probe.asked if f is not torch.ops.aten.detach.default or f is function]
        if len(asked) == 1 and _same(asked[0], (function, expected)):
            return binding
    return function._op


def _bindings(function: Overload) -> Iterator[Callable[..., Any]]:
    name = function._overloadpacket.__name__
    for place in _PLACES:
        binding = getattr(place, name, None)
        if binding is not None:
            yield binding


class _Probe(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it so
    """Notes which operators are asked for, computes nothing, and gives the same result for each."""

    def __init__(self, result: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self.result = result
        self.asked: list[tuple[Overload, dict[str, Any]]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # see recording.py

    def __torch_dispatch__(
        self, function: Overload, types: Any, arguments: tuple[Any, ...] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        self.asked.append((function, _complete(function, arguments, options or {})))
        call = Call(function, arguments, options or {}, self.result)
        # A view is not computed, and torch takes no other tensor for it.
        return function(*arguments, **call.options) if call.is_view else self.result


def _complete(function: Overload, arguments: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments by name, with those that were not given as they are by default."""
    schema = function._schema.arguments
    given = {argument.name: value for argument, value in zip(schema, arguments, strict=False)} | dict(options)
    return {argument.name: given.get(argument.name, argument.default_value) for argument in schema}


def _same(value: Any, other: Any) -> bool:
    """Whether both are the same object, or equal without being tensors."""
    if value is other:
        return True
    if isinstance(value, torch.Tensor) or isinstance(other, torch.Tensor):
        return False
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return value.keys() == other.keys() and all(_same(value[key], other[key]) for key in value)
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(_same, value, other))
    return bool(type(value) is type(other) and value == other)
