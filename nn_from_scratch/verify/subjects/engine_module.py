"""Modules of an engine without autograd: records, `input_index`, and a `backward` that adds to `grad`.

Recognized by what they can do, never by their class.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Operand, Run, Subject, Traits, Values
from nn_from_scratch.verify.subjects.call_arguments import (
    Arguments,
    differentiable_names,
    parameter_operand,
    private_values,
    role_names,
    unused_name,
)
from nn_from_scratch.verify.subjects.recognition import Form
from nn_from_scratch.verify.subjects.structure import add_gradients, describe, name_outputs, wrap_errors


@runtime_checkable
class EngineModule(Protocol):
    """What an engine module offers."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The output, which carries `creator` and `input_index`; a record is kept."""

    def backward(self, gradwrtoutput: Tensor) -> Tensor | tuple[Tensor | None, ...] | None:
        """Add to each parameter's `grad` and return the input's gradient."""

    def parameters(self) -> Mapping[str, Tensor]:
        """The parameters by name."""

    def clear_saved_tensors(self) -> None:
        """Forget all records."""

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> object:
        """Move the parameters."""


class EngineRun:
    """One record of a module that this run, and those beside it, own."""

    def __init__(self, subject: EngineSubject, module: EngineModule, private: Mapping[str, Tensor]) -> None:
        self._subject = subject
        self.module = module
        self.inputs = {name: private[name] for name in role_names(subject.operands, "input")}
        self.parameters = subject.labeled_parameters(module)
        with wrap_errors(subject.name, "forward"):
            raw = subject.arguments.call(module, self.inputs)
        named = name_outputs(raw, subject.name)
        self.outputs: Mapping[str, Tensor] = {name: tensor.detach() for name, tensor in named.items()}
        self._indices = {name: _index_of(tensor, subject.name) for name, tensor in named.items()}

    @property
    def handed(self) -> Mapping[str, Tensor]:
        return {name: tensor.detach() for name, tensor in (self.inputs | self.parameters).items()}

    def propagate(self, cotangents: Cotangents) -> dict[str, Tensor | None]:
        """Call the module's backward for each cotangent; the inputs' gradients, added up."""
        subject, wanted = self._subject.name, list(self.inputs)
        total: dict[str, Tensor | None] = dict.fromkeys(wanted)
        for name, cotangent in cotangents.items():
            g = cotangent.detach()  # a fresh object, because it gets an attribute; the memory is the caller's
            g.input_index = self._indices[name]  # type: ignore[attr-defined]
            with wrap_errors(subject, "backward"):
                returned = self.module.backward(g)
            parts = list(returned) if isinstance(returned, tuple | list) else [returned]
            if len(parts) != len(wanted):
                raise SubjectError(
                    f"backward of {subject} returned {describe(returned)}, but there are {len(wanted)} inputs "
                    f"({', '.join(wanted)}); one gradient (or None) for each is expected"
                )
            for label, part in zip(wanted, parts, strict=True):
                if part is not None and not isinstance(part, Tensor):
                    raise SubjectError(
                        f"backward of {subject} returned {describe(part)} as the gradient of {label}; a tensor or "
                        "None is expected"
                    )
                total[label] = add_gradients(total[label], part)
        return total

    def backward(self, cotangents: Cotangents) -> Gradients:
        return self._subject.backward_together([self], [cotangents])

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        for name, parameter in self.parameters.items():
            parameter.grad = held[name]
        self.propagate(cotangents)
        return {name: parameter.grad for name, parameter in self.parameters.items()}

    def release(self) -> None:
        self.module.clear_saved_tensors()
        self.inputs, self.outputs = {}, {}


def _index_of(output: Tensor, name: str) -> int:
    index = getattr(output, "input_index", None)
    if not isinstance(index, int):
        raise SubjectError(
            f"the output of {name} has input_index {index!r}; an engine module sets it to the index of its record"
        )
    return index


class EngineSubject:
    """A module of an engine without autograd.

    Each run works on a copy of the module, so the user's own keeps its records, gradients and parameters.
    """

    form = "engine module"

    notes = ()

    def __init__(self, target: EngineModule, arguments: Arguments, *, name: str) -> None:
        self.target: object = target
        self.name = name
        self.arguments = arguments
        with wrap_errors(name, "deepcopy"):
            self._module = copy.deepcopy(target)
        self._evaluators: dict[tuple[tuple[torch.dtype, torch.device], ...], EngineModule] = {}
        self._movable = callable(getattr(target, "to", None))
        inputs = role_names(arguments.operands, "input")
        self._own_names = {unused_name(own, inputs, "parameters"): own for own in self._module.parameters()}
        parameters = self.labeled_parameters(self._module)
        self.operands: tuple[Operand, ...] = (
            *arguments.operands,
            *(parameter_operand(label, tensor, name) for label, tensor in parameters.items()),
        )
        self.traits = Traits(
            several_pending=True,
            backward_twice=True,
            parameter_gradients="adds",
            dtypes=self._movable or not parameters,
            devices=self._movable or not parameters,
        )

    def labeled_parameters(self, module: EngineModule) -> dict[str, Tensor]:
        """The parameters of a copy of the module, by the names of their operands."""
        parameters = module.parameters()
        return {label: parameters[own] for label, own in self._own_names.items()}

    def _prepared(self, private: Mapping[str, Tensor]) -> EngineModule:
        """A copy of the module that holds these parameters."""
        with wrap_errors(self.name, "deepcopy"):
            module = copy.deepcopy(self._module)
        self._place(module, private)
        return module

    def _evaluator(self, private: Mapping[str, Tensor]) -> EngineModule:
        """A copy for forward passes alone, kept for each dtype and device that its parameters had."""
        if torch.is_inference_mode_enabled():
            return self._prepared(private)  # tensors made in this mode must not be used outside of it
        key = tuple((private[label].dtype, private[label].device) for label in self._own_names or private)
        if key not in self._evaluators:
            self._evaluators[key] = self._prepared(private)
        return self._evaluators[key]

    def _place(self, module: EngineModule, private: Mapping[str, Tensor]) -> None:
        """Write values into the parameters; where their dtype or device is another, the whole module moves first."""
        held = self.labeled_parameters(module)
        moved = [
            private[name]
            for name, p in held.items()
            if (p.dtype, p.device) != (private[name].dtype, private[name].device)
        ]
        if not self._own_names and self._movable:
            # Buffers without parameters (running statistics, class weights) follow the inputs.
            moved = [value for value in private.values() if value.is_floating_point() or value.is_complex()]
        for value in moved[:1]:
            with wrap_errors(self.name, "to()"):
                module.to(device=value.device, dtype=value.dtype)
        for name, parameter in self.labeled_parameters(module).items():
            with torch.no_grad(), wrap_errors(self.name, "writing a parameter"):
                parameter.copy_(private[name])
                parameter.grad = None

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        private = private_values(self.operands, values)
        module = self._evaluator(private)
        try:
            self._place(module, private)
            with wrap_errors(self.name, "forward"):
                inputs = {name: private[name] for name in role_names(self.operands, "input")}
                outputs = name_outputs(self.arguments.call(module, inputs), self.name)
        finally:
            module.clear_saved_tensors()
        return {name: tensor.detach() for name, tensor in outputs.items()}

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> EngineRun:
        if frozen:
            raise SubjectError(f"{self.name} is an engine module; it has no parameters that can be frozen")
        private = private_values(self.operands, values)
        if isinstance(beside, EngineRun):
            private.update({name: x for name, x in beside.inputs.items() if name not in values})
            return EngineRun(self, beside.module, private)
        return EngineRun(self, self._prepared(private), private)

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        own = [run for run in runs if isinstance(run, EngineRun)]
        parameters = own[0].parameters
        for parameter in parameters.values():
            parameter.grad = None
        total: dict[str, Tensor | None] = dict.fromkeys(differentiable_names(self.operands))
        for run, given in zip(own, cotangents, strict=True):
            for name, gradient in run.propagate(given).items():
                if name in total:
                    total[name] = add_gradients(total[name], gradient)
        for name, parameter in parameters.items():
            if name in total:
                total[name] = parameter.grad
                parameter.grad = None
        return total

    def rebuilt(self, target: object) -> Subject:
        if not isinstance(target, EngineModule):
            raise SubjectError(f"{target!r} is not an engine module, unlike what {self.name} was made of")
        return EngineSubject(target, self.arguments, name=self.name)


def _accepts(obj: Any) -> bool:
    return not isinstance(obj, type) and isinstance(obj, EngineModule) and isinstance(obj.parameters(), Mapping)


@Form(
    "engine module",
    "an object with backward(g), parameters() -> dictionary and clear_saved_tensors()",
    order=10,
    accepts=_accepts,
)
def adapt_engine(module: EngineModule, arguments: Arguments, *, name: str) -> EngineSubject:
    """The subject around an engine module.

    Raises:
        SubjectError: the module cannot be copied, its forward raised, or its output carries no `input_index`.
    """
    subject = EngineSubject(module, arguments, name=name)
    subject.run({}).release()
    return subject
