"""`torch.nn.Module`: parameters by name, buffers left as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Operand
from nn_from_scratch.verify.subjects.arguments import Arguments
from nn_from_scratch.verify.subjects.autograd import AutogradSubject
from nn_from_scratch.verify.subjects.structure import dense, snapshot
from nn_from_scratch.verify.subjects.torch_calls import TorchCall

__all__ = ["ModuleCall", "adapt_module"]


class ModuleCall:
    """Calls a module with other tensors in the place of its parameters and with copies of its buffers.

    The module itself is never touched: running statistics do not drift, and several passes with different
    parameters may be pending.
    """

    def __init__(self, module: nn.Module, arguments: Arguments, name: str) -> None:
        self._module = module
        self._arguments = arguments
        self._name = name
        self._labels: dict[str, str] = {}
        inputs = {slot.name for slot in arguments.operands}
        operands = list(arguments.operands)
        for parameter, tensor in module.named_parameters():
            label = parameter if parameter not in inputs else f"parameters.{parameter}"
            self._labels[label] = parameter
            real = tensor.is_floating_point() and tensor.requires_grad
            operands.append(
                Operand(
                    name=label,
                    role="parameter",
                    differentiable=real,
                    required=real,
                    value=snapshot(dense(tensor, parameter, name), offset=False),
                )
            )
        self.operands = tuple(operands)

    def leaf(self, slot: Operand, value: Tensor) -> Tensor:
        """See `TorchCall.leaf`."""
        return value

    def __call__(self, tensors: Mapping[str, Tensor]) -> object:
        """See `TorchCall.__call__`."""
        replaced: dict[str, Tensor] = {self._labels[label]: tensors[label] for label in self._labels}
        dtype, device = self._placement(tensors)
        for name, buffer in self._module.named_buffers():
            kept = buffer.detach().clone()
            replaced[name] = kept.to(device, dtype if kept.is_floating_point() else None)

        def call(*args: object, **kwargs: object) -> object:
            return torch.func.functional_call(self._module, replaced, args, kwargs)

        return self._arguments.call(call, tensors)

    def _placement(self, tensors: Mapping[str, Tensor]) -> tuple[torch.dtype | None, torch.device | None]:
        """Where the buffers must go: where the values went that left their snapshot's dtype or device."""
        dtype: torch.dtype | None = None
        device: torch.device | None = None
        for slot in self.operands:
            tensor = tensors[slot.name]
            device = tensor.device if tensor.device != slot.value.device else device
            if slot.value.is_floating_point() and tensor.dtype != slot.value.dtype:
                dtype = tensor.dtype if tensor.is_floating_point() else tensor.dtype.to_real()
        return dtype, device

    def placed(self, values: Mapping[str, Tensor], frozen: Collection[str]) -> AbstractContextManager[None]:
        """See `TorchCall.placed`."""
        return nullcontext()

    def rebuilt(self, target: object) -> TorchCall:
        """See `TorchCall.rebuilt`."""
        if not isinstance(target, nn.Module):
            raise SubjectError(f"{target!r} is not a torch.nn.Module, unlike what {self._name} was made of")
        return ModuleCall(target, self._arguments, self._name)


def adapt_module(module: nn.Module, arguments: Arguments, *, name: str) -> AutogradSubject:
    """The subject around a module in the mode (training or evaluation) that it is in.

    Raises:
        SubjectError: the forward raised or returned no tensor, or a parameter is not dense.
    """
    mode = "training" if module.training else "evaluation"
    notes = (f"in {mode} mode", "buffers are left as they are") if any(True for _ in module.buffers()) else ()
    subject = AutogradSubject(
        ModuleCall(module, arguments, name), target=module, name=name, form="torch module", notes=notes
    )
    subject.run({}).release()
    return subject
