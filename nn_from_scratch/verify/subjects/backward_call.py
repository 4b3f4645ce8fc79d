"""The backward of a subject that autograd differentiates, as a function of its inputs and cotangents."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor

from nn_from_scratch.verify.protocol import Cotangents, Operand, Values
from nn_from_scratch.verify.subjects.autograd import Answer, AutogradRun, AutogradSubject, TorchCall
from nn_from_scratch.verify.subjects.call_arguments import takes_part, unused_name
from nn_from_scratch.verify.subjects.structure import name_outputs, snapshot, wrap_errors


class BackwardCall(TorchCall):
    """The map (x, v) -> VJP(x; v) of a call, with a graph: its outputs are the gradients of the call's operands.

    Each cotangent is an operand of its own beside those of the call, and so is held in `cotangents` by its name.
    """

    def __init__(self, subject: AutogradSubject, cotangents: Cotangents) -> None:
        self._subject = subject
        inner = subject.call
        self.function, self.arguments, self.captured, self.name = (
            inner.function,
            inner.arguments,
            inner.captured,
            inner.name,
        )
        taken = {operand.name for operand in inner.operands}
        self.cotangents = {output: unused_name(f"grad_{output}", taken, "cotangent") for output in cotangents}
        self.operands = (
            *(replace(operand, required=operand.differentiable) for operand in inner.operands),
            *(
                Operand(name=name, role="input", differentiable=True, required=True, value=snapshot(cotangents[output]))
                for output, name in self.cotangents.items()
            ),
        )

    def __call__(self, tensors: Mapping[str, Tensor]) -> object:
        inner = self._subject.call
        own = {operand.name: operand for operand in inner.operands}
        with torch.enable_grad():
            leaves = {name: _recorded(tensors[name]) if own[name].differentiable else tensors[name] for name in own}
            named = name_outputs(inner(leaves), self._subject.name)
            outputs = {name: y for name, y in named.items() if name in self.cotangents and y.requires_grad}
            targets = {name: leaf for name, leaf in leaves.items() if own[name].differentiable and leaf.requires_grad}
            found = torch.autograd.grad(
                list(outputs.values()),
                list(targets.values()),
                [tensors[self.cotangents[name]] for name in outputs],
                create_graph=True,
                allow_unused=True,
            )
        return {n: torch.zeros_like(x) if g is None else g for (n, x), g in zip(targets.items(), found, strict=True)}

    def placed(self, values: Values, frozen: Collection[str]) -> AbstractContextManager[None]:
        # Captured tensors are differentiated by in a forward too, as that holds a backward.
        return self._subject.call.placed(values, set(frozen) - self.captured.keys())

    def within(self, run: AutogradRun, action: Callable[[], Answer]) -> Answer:
        return self._subject.call.within(run, action)


def _recorded(tensor: Tensor) -> Tensor:
    return tensor if tensor.requires_grad or not takes_part(tensor) else tensor.detach().requires_grad_()


def differentiate_all(run: AutogradRun, subject: AutogradSubject) -> None:
    """A backward through all of a run of a backward subject, as training takes it.

    `torch.autograd.grad` leaves out what does not lead to its inputs, and so the node by which a backward that is
    once differentiable says no.

    Raises:
        SubjectError: the second derivative is refused.
    """
    outputs = [y for y in run.raw.values() if y.requires_grad]
    seeds = [torch.ones_like(y) for y in outputs]
    with wrap_errors(subject.name, "backward"):
        subject.call.within(run, lambda: torch.autograd.backward(outputs, seeds, retain_graph=True))


def backward_subject(subject: AutogradSubject, cotangents: Cotangents) -> AutogradSubject:
    """The backward of a subject as a subject of its own, whose gradients are the second derivatives.

    Args:
        cotangents: by output; those outputs are differentiated, and these are the values at which.
    """
    return AutogradSubject(BackwardCall(subject, cotangents), subject.target, subject.name, subject.form)
