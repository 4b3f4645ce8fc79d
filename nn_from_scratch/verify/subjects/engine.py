"""Modules of an engine without autograd: records, `input_index`, and a `backward` that adds to `grad`.

Recognised by what they can do, never by their class.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Operand, Run, Subject, Traits, Values
from nn_from_scratch.verify.subjects.arguments import Arguments
from nn_from_scratch.verify.subjects.structure import dense, describe, name_outputs, snapshot, wrap_errors

__all__ = ["EngineModule", "EngineSubject", "adapt_engine"]


@runtime_checkable
class EngineModule(Protocol):
    """What an engine module offers."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The output, which carries `creator` and `input_index`; a record is kept."""
        ...

    def backward(self, gradwrtoutput: Tensor) -> Tensor | tuple[Tensor | None, ...] | None:
        """Add to each parameter's `grad` and return the input's gradient."""
        ...

    def parameters(self) -> Mapping[str, Tensor]:
        """The parameters by name."""
        ...

    def clear_saved_tensors(self) -> None:
        """Forget all records."""
        ...

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> object:
        """Move the parameters."""
        ...


class EngineRun:
    """One record of a module that this run, and those beside it, own."""

    def __init__(self, subject: EngineSubject, module: EngineModule, private: Mapping[str, Tensor]) -> None:
        self._subject = subject
        self.module = module
        self._inputs = {slot.name: private[slot.name] for slot in subject.operands if slot.role == "input"}
        self.parameters = subject.labelled(module)
        with wrap_errors(subject.name, "forward"):
            raw = subject.arguments.call(module, self._inputs)
        named = name_outputs(raw, subject.name)
        self.outputs: Mapping[str, Tensor] = {name: tensor.detach() for name, tensor in named.items()}
        self._indices = {name: _index_of(tensor, subject.name) for name, tensor in named.items()}

    @property
    def handed(self) -> Mapping[str, Tensor]:
        return {name: tensor.detach() for name, tensor in (self._inputs | self.parameters).items()}

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """The very tensors that the module was called with."""
        return self._inputs

    def propagate(self, cotangents: Cotangents) -> dict[str, Tensor | None]:
        """Call the module's backward for each cotangent; the inputs' gradients, added up."""
        wanted = [slot.name for slot in self._subject.operands if slot.role == "input"]
        total: dict[str, Tensor | None] = dict.fromkeys(wanted)
        for name, cotangent in cotangents.items():
            g = cotangent.detach()  # a fresh object, because it gets an attribute; the memory is the caller's
            g.input_index = self._indices[name]  # type: ignore[attr-defined]
            with wrap_errors(self._subject.name, "backward"):
                returned = self.module.backward(g)
            parts = list(returned) if isinstance(returned, tuple | list) else [returned]
            if len(parts) != len(wanted):
                raise SubjectError(
                    f"backward of {self._subject.name} returned {describe(returned)}, but there are "
                    f"{len(wanted)} "
                    f"inputs ({', '.join(wanted)}); one gradient (or None) for each is expected"
                )
            for label, part in zip(wanted, parts, strict=True):
                if part is not None and not isinstance(part, Tensor):
                    raise SubjectError(
                        f"backward of {self._subject.name} returned {describe(part)} as the gradient of "
                        f"{label}; "
                        "a tensor or None is expected"
                    )
                before = total[label]
                total[label] = part if before is None or part is None else before + part
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
        self._inputs, self.outputs = {}, {}


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

    def __init__(self, target: EngineModule, arguments: Arguments, *, name: str, notes: tuple[str, ...] = ()) -> None:
        self.target: object = target
        self.name = name
        self.notes = notes
        self.arguments = arguments
        with wrap_errors(name, "deepcopy"):
            self._module = copy.deepcopy(target)
        self._evaluators: dict[tuple[tuple[torch.dtype, torch.device], ...], EngineModule] = {}
        self._movable = callable(getattr(target, "to", None))
        inputs = {slot.name for slot in arguments.operands}
        self._names = {
            label if label not in inputs else f"parameters.{label}": label for label in self._module.parameters()
        }
        self.operands = arguments.operands + tuple(
            Operand(
                name=label,
                role="parameter",
                differentiable=tensor.is_floating_point(),
                required=tensor.is_floating_point(),
                value=snapshot(dense(tensor, label, name), offset=False),
            )
            for label, tensor in self.labelled(self._module).items()
        )
        self.traits = Traits(
            several_pending=True,
            backward_twice=True,
            parameter_gradients="adds",
            freezable=False,
            torch_engine=False,
            dtypes=self._movable or len(self.operands) == len(arguments.operands),
            devices=self._movable or len(self.operands) == len(arguments.operands),
            copies=True,
        )

    def labelled(self, module: EngineModule) -> dict[str, Tensor]:
        """The parameters of a copy of the module, by the names of their operands."""
        parameters = module.parameters()
        return {label: parameters[inner] for label, inner in self._names.items()}

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
        key = tuple((private[label].dtype, private[label].device) for label in self._names or private)
        if key not in self._evaluators:
            self._evaluators[key] = self._prepared(private)
        return self._evaluators[key]

    def _place(self, module: EngineModule, private: Mapping[str, Tensor]) -> None:
        for label, held in self.labelled(module).items():
            value = private[label]
            if (held.dtype, held.device) != (value.dtype, value.device):
                with wrap_errors(self.name, "to()"):
                    module.to(device=value.device, dtype=value.dtype)
                break
        if not self._names and self._movable:
            # Buffers without parameters (running statistics, class weights) follow the inputs.
            for value in private.values():
                if value.is_floating_point() or value.is_complex():
                    with wrap_errors(self.name, "to()"):
                        module.to(device=value.device, dtype=value.dtype)
                    break
        for label, parameter in self.labelled(module).items():
            with torch.no_grad(), wrap_errors(self.name, "writing a parameter"):
                parameter.copy_(private[label])
                parameter.grad = None

    def _private(self, values: Values) -> dict[str, Tensor]:
        return {slot.name: snapshot(values.get(slot.name, slot.value)) for slot in self.operands}

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        """See `Subject.forward`."""
        private = self._private(values)
        module = self._evaluator(private)
        inputs = {slot.name: private[slot.name] for slot in self.operands if slot.role == "input"}
        try:
            self._place(module, private)
            with wrap_errors(self.name, "forward"):
                outputs = name_outputs(self.arguments.call(module, inputs), self.name)
        finally:
            module.clear_saved_tensors()
        return {name: tensor.detach() for name, tensor in outputs.items()}

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> EngineRun:
        """See `Subject.run`."""
        if frozen:
            raise SubjectError(f"{self.name} is an engine module; it has no parameters that can be frozen")
        private = self._private(values)
        if isinstance(beside, EngineRun):
            private.update({name: x for name, x in beside.inputs.items() if name not in values})
            return EngineRun(self, beside.module, private)
        return EngineRun(self, self._prepared(private), private)

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        """See `Subject.backward_together`."""
        first = runs[0]
        assert isinstance(first, EngineRun)
        for parameter in first.parameters.values():
            parameter.grad = None
        total: dict[str, Tensor | None] = {slot.name: None for slot in self.operands if slot.differentiable}
        for run, given in zip(runs, cotangents, strict=True):
            assert isinstance(run, EngineRun)
            for name, gradient in run.propagate(given).items():
                if name in total and gradient is not None:
                    before = total[name]
                    total[name] = gradient if before is None else before + gradient
        for name, parameter in first.parameters.items():
            if name in total:
                total[name] = parameter.grad
                parameter.grad = None
        return total

    def rebuilt(self, target: object) -> Subject:
        """See `Subject.rebuilt`."""
        if not isinstance(target, EngineModule):
            raise SubjectError(f"{target!r} is no engine module, unlike what {self.name} was made of")
        return EngineSubject(target, self.arguments, name=self.name, notes=self.notes)


def adapt_engine(module: EngineModule, arguments: Arguments, *, name: str) -> EngineSubject:
    """The subject around an engine module.

    Raises:
        SubjectError: the module cannot be copied, its forward raised, or its output carries no `input_index`.
    """
    subject = EngineSubject(module, arguments, name=name)
    subject.run({}).release()
    return subject
