"""Subjects that PyTorch's autograd engine differentiates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Run, Subject, Traits, Values
from nn_from_scratch.verify.subjects.arguments import Arguments
from nn_from_scratch.verify.subjects.captured import captured_leaves, graph_clock, name_captured
from nn_from_scratch.verify.subjects.structure import name_outputs, snapshot, wrap_errors
from nn_from_scratch.verify.subjects.torch_calls import FunctionCall, TorchCall

__all__ = ["AutogradRun", "AutogradSubject", "adapt_function"]


class AutogradRun:
    """One pass through a `TorchCall`, with the graph that it left."""

    def __init__(
        self,
        subject: AutogradSubject,
        values: Mapping[str, Tensor],
        leaves: Mapping[str, Tensor],
        frozen: frozenset[str],
    ) -> None:
        self._subject = subject
        self.values = values
        self.leaves = leaves
        self.frozen = frozen
        with torch.enable_grad(), wrap_errors(subject.name, "forward"), subject.placed(values, frozen):
            self.raw = name_outputs(subject.call(leaves), subject.name)
            # Taken while the values are in place: an exchange of dtype gives a captured tensor another edge.
            self.edges = {name: get_gradient_edge(leaf) for name, leaf in leaves.items() if leaf.requires_grad}
        self.outputs: Mapping[str, Tensor] = {name: tensor.detach() for name, tensor in self.raw.items()}

    @property
    def handed(self) -> Mapping[str, Tensor]:
        """See `Run.handed`."""
        # An input's leaf, because the subject may exchange its memory; a captured tensor is back in its own
        # place.
        inputs = {slot.name for slot in self._subject.operands if slot.role == "input"}
        return {name: (self.leaves[name] if name in inputs else value).detach() for name, value in self.values.items()}

    def backward(self, cotangents: Cotangents) -> Gradients:
        """See `Run.backward`."""
        return self._subject.backward_together([self], [cotangents])

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        """See `Run.backward_onto`."""
        raise SubjectError(f"{self._subject.name} returns its gradients; it keeps none in fields")

    def release(self) -> None:
        """See `Run.release`."""
        self.raw, self.outputs, self.values, self.leaves, self.edges = {}, {}, {}, {}, {}


class AutogradSubject:
    """A subject that PyTorch's autograd engine differentiates.

    Args:
        call: how it is called.
        target: what the user handed over.
        name: what messages call it.
        form: `"autograd"` or `"torch module"`.
        notes: what the adapter found out.
    """

    def __init__(self, call: TorchCall, *, target: object, name: str, form: str, notes: tuple[str, ...] = ()) -> None:
        self.call = call
        self.target = target
        self.name = name
        self.form = form
        self.notes = notes
        self.operands = call.operands
        self.traits = Traits(
            several_pending=True,
            backward_twice=True,
            parameter_gradients="returned",
            freezable=True,
            torch_engine=True,
            dtypes=True,
            devices=True,
            copies=form == "torch module",
        )

    def placed(self, values: Mapping[str, Tensor], frozen: Collection[str]) -> AbstractContextManager[None]:
        """The call's context for these values."""
        return self.call.placed(values, frozen)

    def _private(self, values: Values) -> dict[str, Tensor]:
        return {slot.name: snapshot(values.get(slot.name, slot.value)) for slot in self.operands}

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        """See `Subject.forward`."""
        private = self._private(values)
        tensors = {slot.name: self.call.leaf(slot, private[slot.name]) for slot in self.operands}
        everything = [slot.name for slot in self.operands]
        with torch.no_grad(), wrap_errors(self.name, "forward"), self.placed(private, everything):
            outputs = name_outputs(self.call(tensors), self.name)
        return {name: tensor.detach() for name, tensor in outputs.items()}

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> AutogradRun:
        """See `Subject.run`."""
        private: dict[str, Tensor] = {}
        leaves: dict[str, Tensor] = {}
        for slot in self.operands:
            if isinstance(beside, AutogradRun) and (slot.role == "parameter" or slot.name not in values):
                private[slot.name], leaves[slot.name] = beside.values[slot.name], beside.leaves[slot.name]
                continue
            private[slot.name] = snapshot(values.get(slot.name, slot.value))
            leaves[slot.name] = self.call.leaf(slot, private[slot.name])
            if leaves[slot.name] is private[slot.name]:
                # The values stay reachable beside the leaf, whose own `data` the subject may exchange.
                leaves[slot.name] = private[slot.name].detach()
                leaves[slot.name].requires_grad_(slot.differentiable and slot.name not in frozen)
        return AutogradRun(self, private, leaves, frozenset(frozen))

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        """See `Subject.backward_together`."""
        outputs: list[Tensor] = []
        seeds: list[Tensor] = []
        first = runs[0]
        assert isinstance(first, AutogradRun)
        for run, given in zip(runs, cotangents, strict=True):
            assert isinstance(run, AutogradRun)
            for name, cotangent in given.items():
                # An output that the subject detached adds nothing; the numerical side shows whether it
                # should.
                if run.raw[name].requires_grad:
                    outputs.append(run.raw[name])
                    seeds.append(cotangent)
        wanted = [slot.name for slot in self.operands if slot.differentiable and slot.name not in first.frozen]
        result: dict[str, Tensor | None] = {slot.name: None for slot in self.operands if slot.differentiable}
        edges: list[tuple[str, GradientEdge]] = []
        for name in wanted:
            for run in runs:
                edge = run.edges[name]  # type: ignore[attr-defined]
                if not any(held == name and other.node is edge.node for held, other in edges):
                    edges.append((name, edge))
        if outputs and edges:
            with wrap_errors(self.name, "backward"), self.placed(first.values, first.frozen):
                gradients = torch.autograd.grad(
                    outputs, [edge for _, edge in edges], seeds, retain_graph=True, allow_unused=True
                )
            for (name, _), gradient in zip(edges, gradients, strict=True):
                before = result[name]
                result[name] = gradient if before is None or gradient is None else before + gradient
        return result

    def rebuilt(self, target: object) -> Subject:
        """See `Subject.rebuilt`."""
        return AutogradSubject(
            self.call.rebuilt(target), target=target, name=self.name, form=self.form, notes=self.notes
        )


def adapt_function(
    function: Callable[..., object],
    arguments: Arguments,
    *,
    target: object,
    name: str,
    parameters: Mapping[str, Tensor] | None,
) -> AutogradSubject:
    """The subject around a callable; one forward pass finds what it captures.

    Args:
        function: the callable.
        arguments: its inputs.
        target: what the user handed over.
        name: what messages call it.
        parameters: captured tensors by name, beside those that the graph shows; leaves that need not require
            grad.

    Raises:
        SubjectError: the forward raised or returned no tensor.
    """
    for label, tensor in (parameters or {}).items():
        if not tensor.is_leaf:
            raise SubjectError(
                f"parameter {label!r} of {name} was computed from other tensors; only leaves can be given other values"
            )
    probe = AutogradSubject(FunctionCall(function, arguments, {}, name), target=target, name=name, form="autograd")
    clock = graph_clock()
    first = probe.run({})
    named = dict(parameters or {})
    given = {id(tensor) for tensor in named.values()}
    leaves, older = captured_leaves(first.raw.values(), first.leaves.values(), clock)
    found = [leaf for leaf in leaves if id(leaf) not in given]
    for label, tensor in name_captured(target if callable(target) else function, found).items():
        taken = {slot.name for slot in arguments.operands} | set(named)
        named[label if label not in taken else f"captured.{label}"] = tensor
    notes = []
    if found:
        notes.append(
            f"captured tensors checked as parameters: {', '.join(n for n in named if n not in (parameters or {}))}"
        )
    if older:
        notes.append("a captured tensor that is no leaf (computed before the call) is held constant")
    first.release()
    return AutogradSubject(
        FunctionCall(function, arguments, named, name),
        target=target,
        name=name,
        form="autograd",
        notes=tuple(notes),
    )
