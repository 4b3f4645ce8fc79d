"""Subjects that PyTorch's autograd engine differentiates: functions, and what is common with modules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

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
from nn_from_scratch.verify.subjects.captured_tensors import captured_leaves, graph_clock, name_captured
from nn_from_scratch.verify.subjects.methods import find_methods, is_plain_object, own_methods
from nn_from_scratch.verify.subjects.recognition import Form, plain_name
from nn_from_scratch.verify.subjects.structure import add_gradients, name_outputs, snapshot, wrap_errors


@dataclass(eq=False)
class TorchCall:
    """How a subject is called with tensors for all its operands; the tensors that it captures are its parameters.

    Values are put into captured tensors for a call, and restored after it.
    """

    function: Callable[..., object]
    arguments: Arguments
    captured: Mapping[str, Tensor]
    name: str

    def __post_init__(self) -> None:
        parameters = (parameter_operand(label, tensor, self.name) for label, tensor in self.captured.items())
        self.operands: tuple[Operand, ...] = (*self.arguments.operands, *parameters)

    def __call__(self, tensors: Mapping[str, Tensor]) -> object:
        return self.arguments.call(self.function, tensors)

    @contextmanager
    def placed(self, values: Values, frozen: Collection[str]) -> Iterator[None]:
        """Context manager in which captured tensors hold these values, and require grad unless they are frozen."""
        held = {name: (tensor.data, tensor.requires_grad) for name, tensor in self.captured.items()}
        try:
            for name, tensor in self.captured.items():
                # Exchanging `data` leaves the version counter alone, so tensors saved for backward stay valid.
                if name in values:
                    tensor.data = values[name]
                tensor.requires_grad_(tensor.is_floating_point() and name not in frozen)
            yield
        finally:
            for name, (data, requires_grad) in held.items():
                self.captured[name].data = data
                self.captured[name].requires_grad_(requires_grad)

    def rebuilt(self, target: object) -> TorchCall:
        """The same around another object."""
        raise SubjectError(f"{target!r} is a function; only objects with state are copied")


class AutogradRun:
    """One pass through a `TorchCall`, with the graph that it left."""

    def __init__(
        self, subject: AutogradSubject, values: Values, leaves: Mapping[str, Tensor], frozen: frozenset[str]
    ) -> None:
        self._subject = subject
        self.values = values
        self.leaves = leaves
        self.frozen = frozen
        with torch.enable_grad(), wrap_errors(subject.name, "forward"), subject.call.placed(values, frozen):
            self.raw = name_outputs(subject.call(leaves), subject.name)
            # Taken while the values are in place: an exchange of dtype gives a captured tensor another edge.
            self.edges = {name: get_gradient_edge(leaf) for name, leaf in leaves.items() if leaf.requires_grad}
        self.outputs: Mapping[str, Tensor] = {name: tensor.detach() for name, tensor in self.raw.items()}

    @property
    def handed(self) -> Mapping[str, Tensor]:
        # An input's leaf, because the subject may exchange its memory; a captured tensor is back in its own place.
        inputs = role_names(self._subject.operands, "input")
        return {name: (self.leaves[name] if name in inputs else value).detach() for name, value in self.values.items()}

    def backward(self, cotangents: Cotangents) -> Gradients:
        return self._subject.backward_together([self], [cotangents])

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        raise SubjectError(f"{self._subject.name} returns its gradients; it keeps none in fields")

    def release(self) -> None:
        self.raw, self.outputs, self.values, self.leaves, self.edges = {}, {}, {}, {}, {}


@dataclass(eq=False)
class AutogradSubject:
    """A subject that PyTorch's autograd engine differentiates; its attributes are those of `Subject`."""

    call: TorchCall
    target: object
    name: str
    form: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.operands = self.call.operands
        self.traits = Traits(
            several_pending=True,
            backward_twice=True,
            freezable=True,
            torch_engine=True,
            copies=self.form == "torch module",
        )

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        private = private_values(self.operands, values)
        tensors = {**private, **self.call.captured}
        with torch.no_grad(), wrap_errors(self.name, "forward"), self.call.placed(private, private):
            outputs = name_outputs(self.call(tensors), self.name)
        return {name: tensor.detach() for name, tensor in outputs.items()}

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> AutogradRun:
        private: dict[str, Tensor] = {}
        leaves: dict[str, Tensor] = {}
        for operand in self.operands:
            name = operand.name
            if isinstance(beside, AutogradRun) and (operand.role == "parameter" or name not in values):
                private[name], leaves[name] = beside.values[name], beside.leaves[name]
                continue
            private[name] = snapshot(values.get(name, operand.value))
            if name in self.call.captured:
                leaves[name] = self.call.captured[name]
            else:
                # The values stay reachable beside the leaf, whose own `data` the subject may exchange.
                leaves[name] = private[name].detach()
                leaves[name].requires_grad_(operand.differentiable and name not in frozen)
        return AutogradRun(self, private, leaves, frozenset(frozen))

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        own = [run for run in runs if isinstance(run, AutogradRun)]
        outputs: list[Tensor] = []
        seeds: list[Tensor] = []
        for run, given in zip(own, cotangents, strict=True):
            for name, cotangent in given.items():
                # An output that the subject detached adds nothing; the numerical side shows whether it should.
                if run.raw[name].requires_grad:
                    outputs.append(run.raw[name])
                    seeds.append(cotangent)
        names = differentiable_names(self.operands)
        result: dict[str, Tensor | None] = dict.fromkeys(names)
        edges: list[tuple[str, GradientEdge]] = []
        for name in names:
            for run in own if name not in own[0].frozen else ():
                if not any(held == name and other.node is run.edges[name].node for held, other in edges):
                    edges.append((name, run.edges[name]))
        if outputs and edges:
            targets = [edge for _, edge in edges]
            with wrap_errors(self.name, "backward"), self.call.placed(own[0].values, own[0].frozen):
                found = torch.autograd.grad(outputs, targets, seeds, retain_graph=True, allow_unused=True)
            for (name, _), gradient in zip(edges, found, strict=True):
                result[name] = add_gradients(result[name], gradient)
        return result

    def rebuilt(self, target: object) -> Subject:
        return replace(self, call=self.call.rebuilt(target), target=target)


def _function_class(obj: object) -> type[torch.autograd.Function] | None:
    """The `torch.autograd.Function` subclass that an object is, or is the `apply` of."""
    for candidate in (obj, getattr(obj, "__self__", None)):
        if isinstance(candidate, type) and issubclass(candidate, torch.autograd.Function):
            return candidate
    return None


def _accepts(obj: Any) -> bool:
    if isinstance(obj, type):
        return _function_class(obj) is not None
    if not callable(obj) or callable(getattr(obj, "backward", None)):
        return False
    methods = find_methods(obj) if is_plain_object(obj) else None
    return methods is None or methods.backward not in own_methods(obj)


def _signature(obj: Any) -> tuple[object, int]:
    owner = _function_class(obj)
    if owner is None:
        return obj, 0
    # Without setup_context the first argument of forward is the context.
    separate = owner.setup_context is not torch.autograd.Function.setup_context
    return owner.forward, 0 if separate else 1


@Form(
    "autograd",
    "a torch.autograd.Function, its .apply, or a callable on tensors that autograd differentiates",
    order=30,
    accepts=_accepts,
    signature=_signature,
    label=lambda obj: plain_name(_function_class(obj) or obj),
)
def adapt_function(
    target: Any, arguments: Arguments, *, name: str, parameters: Mapping[str, Tensor] | None = None
) -> AutogradSubject:
    """The subject around a callable; one forward pass finds what it captures.

    Args:
        parameters: captured tensors by name, beside those that the graph shows; leaves that need not require
            grad.

    Raises:
        SubjectError: the forward raised or returned no tensor.
    """
    owner = _function_class(target)
    function: Callable[..., object] = target if owner is None else owner.apply
    if arguments.arrays and owner is None:
        raise SubjectError(
            f"{name} is called with NumPy arrays, which autograd does not see, and has no backward; give both passes, "
            f"check(({name}, backward), ...), or tensors (torch.from_numpy) if autograd is to differentiate it"
        )
    given = dict(parameters or {})
    for label, tensor in given.items():
        if not tensor.is_leaf:
            raise SubjectError(
                f"parameter {label!r} of {name} was computed from other tensors; only leaves can be given other values"
            )
    probe = AutogradSubject(TorchCall(function, arguments, {}, name), target, name, "autograd")
    clock = graph_clock()
    first = probe.run({})
    leaves, older = captured_leaves(first.raw.values(), first.leaves.values(), clock)
    found = [leaf for leaf in leaves if not any(leaf is tensor for tensor in given.values())]
    taken = {operand.name for operand in arguments.operands} | given.keys()
    captured = {unused_name(label, taken, "captured"): tensor for label, tensor in name_captured(target, found).items()}
    notes = []
    if captured:
        notes.append(f"captured tensors checked as parameters: {', '.join(captured)}")
    if older:
        notes.append("a captured tensor that is not a leaf (computed before the call) is held constant")
    first.release()
    call = TorchCall(function, arguments, given | captured, name)
    return AutogradSubject(call, target, name, "autograd", tuple(notes))
