"""`torch.nn.Module`: parameters by name, buffers left as they are."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.subjects.autograd import Answer, AutogradRun, AutogradSubject, TorchCall
from nn_from_scratch.verify.subjects.call_arguments import (
    Arguments,
    parameter_operand,
    placement,
    private_values,
    role_names,
    takes_part,
    unused_name,
)
from nn_from_scratch.verify.subjects.recognition import Form
from nn_from_scratch.verify.subjects.silent_outputs import silent_results
from nn_from_scratch.verify.subjects.structure import wrap_errors

_COPYING = ("__deepcopy__", "__getstate__", "__setstate__", "__reduce__", "__reduce_ex__")
_LOCKS: WeakKeyDictionary[nn.Module, AbstractContextManager[object]] = WeakKeyDictionary()


class _Around(nn.Module):
    """A module that does something while tensors are in the place of those of the module inside."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, action: Callable[[], Any]) -> Any:
        return action()


def own_copy(module: nn.Module) -> nn.Module | None:
    """A deep copy of a module; None of one that cannot be copied, or that copies itself in a way of its own.

    A tensor that the module has computed from its parameters, as a weight norm does, is a constant in the copy until
    the next forward.
    """
    if any(_copies_itself(type(inner)) for inner in module.modules()):
        return None  # whether it does that right is what is to be checked
    held = [value for inner in module.modules() for value in vars(inner).values()]
    memo = {id(t): t.detach().clone() for t in held if isinstance(t, Tensor) and not t.is_leaf}
    try:
        return copy.deepcopy(module, memo)
    except Exception:  # whatever the module's own methods raise
        return None


def _copies_itself(cls: type) -> bool:
    """Whether a class that is not torch's own says how its objects are copied."""
    own = (base for base in cls.__mro__ if base is not object and base.__module__.split(".")[0] != "torch")
    return any(name in vars(base) for base in own for name in _COPYING)


class ModuleCall(TorchCall):
    """Calls a copy of a module with other tensors in the place of its parameters and with copies of its buffers.

    The module itself is never touched, so that other threads may use it: running statistics do not drift, and several
    passes with different parameters may be pending. The tensors are in place during a backward too, which may call the
    module again. A module that cannot be copied is used itself, by one thread at a time.
    """

    def __init__(self, module: nn.Module, arguments: Arguments, name: str) -> None:
        super().__init__(module, arguments, {}, name)
        copied = own_copy(module)
        self.module = module if copied is None else copied
        self._alone = nullcontext() if copied is not None else _LOCKS.setdefault(module, threading.RLock())
        self._around = _Around(self.module)
        inputs = role_names(arguments.operands, "input")
        own = dict(self.module.named_parameters())
        self._own_names = {unused_name(parameter, inputs, "parameters"): parameter for parameter in own}
        self.operands += tuple(
            parameter_operand(label, own[parameter], name, frozen=not own[parameter].requires_grad)
            for label, parameter in self._own_names.items()
        )

    def __call__(self, tensors: Mapping[str, Tensor]) -> object:
        return self._with(tensors, lambda: self.arguments.call(self.module, tensors))

    def within(self, run: AutogradRun, action: Callable[[], Answer]) -> Answer:
        return self._with(run.leaves, action)

    def _with(self, tensors: Mapping[str, Tensor], action: Callable[[], Answer]) -> Answer:
        replaced = {f"module.{own}": tensors[label] for label, own in self._own_names.items()}
        dtype, device = placement(self.operands, tensors)
        for name, buffer in self.module.named_buffers():
            kept = buffer.detach().clone()
            kept_as = dtype.to_complex() if dtype is not None and kept.is_complex() else dtype
            replaced[f"module.{name}"] = kept.to(device, kept_as if takes_part(kept) else None)
        with self._alone:
            answer: Answer = torch.func.functional_call(self._around, replaced, (action,))
            return answer

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
    with silent_results() as silent:
        first = subject.run({})
    subject = subject.without_silent(first, silent)
    first.release()
    return subject
