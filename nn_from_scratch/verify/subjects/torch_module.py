"""`torch.nn.Module`: parameters by name, buffers left as they are."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.subjects.autograd import AutogradSubject, TorchCall
from nn_from_scratch.verify.subjects.call_arguments import (
    Arguments,
    parameter_operand,
    placement,
    private_values,
    role_names,
    unused_name,
)
from nn_from_scratch.verify.subjects.recognition import Form
from nn_from_scratch.verify.subjects.structure import wrap_errors


class ModuleCall(TorchCall):
    """Calls a module with other tensors in the place of its parameters and with copies of its buffers.

    The module itself is never touched: running statistics do not drift, and several passes with different
    parameters may be pending.
    """

    def __init__(self, module: nn.Module, arguments: Arguments, name: str) -> None:
        super().__init__(module, arguments, {}, name)
        self.module = module
        inputs = role_names(arguments.operands, "input")
        own = dict(module.named_parameters())
        self._own_names = {unused_name(parameter, inputs, "parameters"): parameter for parameter in own}
        self.operands += tuple(
            parameter_operand(label, own[parameter], name, frozen=not own[parameter].requires_grad)
            for label, parameter in self._own_names.items()
        )

    def __call__(self, tensors: Mapping[str, Tensor]) -> object:
        replaced = {own: tensors[label] for label, own in self._own_names.items()}
        dtype, device = placement(self.operands, tensors)
        for name, buffer in self.module.named_buffers():
            kept = buffer.detach().clone()
            replaced[name] = kept.to(device, dtype if kept.is_floating_point() else None)

        def call(*args: object, **kwargs: object) -> object:
            return torch.func.functional_call(self.module, replaced, args, kwargs)

        return self.arguments.call(call, tensors)

    def rebuilt(self, target: object) -> TorchCall:
        if not isinstance(target, nn.Module):
            raise SubjectError(f"{target!r} is not a torch.nn.Module, unlike what {self.name} was made of")
        return ModuleCall(target, self.arguments, self.name)


@Form("torch module", "a torch.nn.Module", order=20, accepts=lambda obj: isinstance(obj, nn.Module))
def adapt_module(module: nn.Module, arguments: Arguments, *, name: str) -> AutogradSubject:
    """The subject around a module in the mode (training or evaluation) that it is in.

    Raises:
        SubjectError: the forward raised or returned no tensor, or a parameter is not dense.
    """
    mode = "training" if module.training else "evaluation"
    notes: tuple[str, ...] = ()
    if any(True for _ in module.buffers()):
        notes = (f"in {mode} mode", "buffers are left as they are")
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        module = copy.deepcopy(module)
        with torch.no_grad(), wrap_errors(name, "forward"):
            arguments.call(module, private_values(arguments.operands, {}))
        notes += ("its weights are made in the first forward: what is checked is a copy that was called once",)
    subject = AutogradSubject(ModuleCall(module, arguments, name), module, name, "torch module", notes)
    subject.run({}).release()
    return subject
