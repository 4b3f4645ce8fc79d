"""How a subject that autograd differentiates is called with tensors in the place of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Operand
from nn_from_scratch.verify.subjects.arguments import Arguments
from nn_from_scratch.verify.subjects.structure import dense, snapshot

__all__ = ["FunctionCall", "TorchCall"]


class TorchCall(Protocol):
    """How a form of subject that autograd differentiates is called with tensors for all its operands."""

    operands: tuple[Operand, ...]

    def leaf(self, slot: Operand, value: Tensor) -> Tensor:
        """The tensor to differentiate with respect to, for a slot that gets this (private) value."""
        ...

    def __call__(self, tensors: Mapping[str, Tensor]) -> object:
        """Call the subject."""
        ...

    def placed(self, values: Mapping[str, Tensor], frozen: Collection[str]) -> AbstractContextManager[None]:
        """A context in which tensors that cannot be handed over hold these values."""
        ...

    def rebuilt(self, target: object) -> TorchCall:
        """The same around another object."""
        ...


class FunctionCall:
    """A function or other callable; the tensors that it captures are its parameters.

    Args:
        function: called with the arguments.
        arguments: its inputs.
        captured: tensors that it holds, by name; values are put into them for a call and restored after it.
    """

    def __init__(
        self, function: Callable[..., object], arguments: Arguments, captured: Mapping[str, Tensor], name: str
    ) -> None:
        self._function = function
        self._arguments = arguments
        self._captured = dict(captured)
        self.operands: tuple[Operand, ...] = arguments.operands + tuple(
            Operand(
                name=parameter,
                role="parameter",
                differentiable=tensor.is_floating_point(),
                required=tensor.is_floating_point(),
                value=snapshot(dense(tensor, parameter, name), offset=False),
            )
            for parameter, tensor in self._captured.items()
        )

    def leaf(self, slot: Operand, value: Tensor) -> Tensor:
        """See `TorchCall.leaf`."""
        return self._captured[slot.name] if slot.role == "parameter" else value

    def __call__(self, tensors: Mapping[str, Tensor]) -> object:
        """See `TorchCall.__call__`."""
        return self._arguments.call(self._function, tensors)

    @contextmanager
    def placed(self, values: Mapping[str, Tensor], frozen: Collection[str]) -> Iterator[None]:
        """See `TorchCall.placed`."""
        held = {name: (tensor.data, tensor.requires_grad) for name, tensor in self._captured.items()}
        try:
            for name, tensor in self._captured.items():
                # Exchanging `data` leaves the version counter alone, so tensors saved for backward stay
                # valid.
                if name in values:
                    tensor.data = values[name]
                tensor.requires_grad_(tensor.is_floating_point() and name not in frozen)
            yield
        finally:
            for name, (data, requires_grad) in held.items():
                self._captured[name].data = data
                self._captured[name].requires_grad_(requires_grad)

    def rebuilt(self, target: object) -> TorchCall:
        """See `TorchCall.rebuilt`."""
        raise SubjectError(f"{target!r} is a function; only objects with state are copied")
