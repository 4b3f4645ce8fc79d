"""What a computation asked torch to do, operator by operator.

A computation whose Python code decides nothing by the values of tensors asks for the same operators whenever it is run
with tensors of the same shapes. Their list is all of it that has to be run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nn_from_scratch.errors import CaptureError

Overload = torch._ops.OpOverload


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in an argument or a result: itself, or those of a list or tuple."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)


def storage_of(tensor: Tensor) -> int:
    """What says which tensors share memory, while they live."""
    key: int = tensor.untyped_storage()._cdata
    return key


@dataclass(frozen=True, eq=False)
class Call:
    """One operator with what it was given and what it gave.

    Attributes:
        function: the operator.
        arguments, options: positional and keyword arguments.
        result: a tensor, a sequence of tensors, or None.
    """

    function: Overload
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    result: Any

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """All tensors among the arguments."""
        return (*tensors_in(self.arguments), *tensors_in(tuple(self.options.values())))

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """All tensors in the result."""
        return tuple(tensors_in(self.result))

    @property
    def written(self) -> tuple[Tensor, ...]:
        """The tensors among the arguments that the operator writes to."""
        schema = self.function._schema.arguments
        found: list[Tensor] = []
        for place, argument in enumerate(schema):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = self.arguments[place] if place < len(self.arguments) else self.options.get(argument.name)
                found.extend(tensors_in(given))
        return tuple(found)

    @property
    def is_view(self) -> bool:
        """Whether the result is another look at the memory of an argument, and nothing is computed."""
        return not self.written and any(argument.alias_info is not None for argument in self.function._schema.arguments)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it so
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Where torch asks: what would keep torch.compile out of the mode takes two seconds to import.
        return False

    def __torch_dispatch__(
        self, function: Overload, types: Any, arguments: tuple[Any, ...] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        _refuse_decisions(function)
        result = function(*arguments, **(options or {}))
        self.calls.append(Call(function, arguments, dict(options or {}), result))
        return result


def _refuse_decisions(function: Overload) -> None:
    tags = function.tags
    if torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags:
        raise CaptureError(
            f"the step asks for {function}, whose result decides what Python code or which shapes come next, so the "
            "next step may be another one; leave the step uncaptured (capture=False)"
        )


def record(computation: Callable[[], Tensor]) -> tuple[Tensor, list[Call]]:
    """Run a computation once; what it gave, and what it asked for.

    Raises:
        CaptureError: its Python code looks at the value of a tensor.
    """
    with torch.no_grad(), _Recorder() as recorder:
        result = computation()
    return result, recorder.calls
