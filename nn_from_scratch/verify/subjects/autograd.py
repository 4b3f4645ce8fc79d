"""Subjects that PyTorch's autograd engine differentiates: functions, and what is common with modules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

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
    takes_part,
    unused_name,
)
from nn_from_scratch.verify.subjects.captured_tensors import captured_leaves, graph_clock, name_captured
from nn_from_scratch.verify.subjects.methods import find_methods, is_plain_object, own_methods
from nn_from_scratch.verify.subjects.recognition import Form, plain_name
from nn_from_scratch.verify.subjects.silent_outputs import silent_results
from nn_from_scratch.verify.subjects.structure import add_gradients, name_outputs, snapshot, wrap_errors

Answer = TypeVar("Answer")

_NOTHING_CAPTURED = nullcontext()


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

    def placed(self, values: Values, frozen: Collection[str]) -> AbstractContextManager[None]:
        """Context manager in which captured tensors hold these values, and require grad unless they are frozen."""
        return self._exchanged(values, frozen) if self.captured else _NOTHING_CAPTURED

    @contextmanager
    def _exchanged(self, values: Values, frozen: Collection[str]) -> Iterator[None]:
        held = {name: (tensor.data, tensor.requires_grad, tensor.grad) for name, tensor in self.captured.items()}
        try:
            for name, tensor in self.captured.items():
                tensor.grad = None  # it has the dtype that the data may leave
                # Exchanging `data` leaves the version counter alone, so tensors saved for backward stay valid.
                if name in values:
                    tensor.data = values[name]
                tensor.requires_grad_(takes_part(tensor) and name not in frozen)
            yield
        finally:
            for name, (data, requires_grad, gradient) in held.items():
                tensor = self.captured[name]
                tensor.grad = None
                tensor.data = data
                tensor.requires_grad_(requires_grad)
                tensor.grad = gradient

    def within(self, run: AutogradRun, action: Callable[[], Answer]) -> Answer:
        """Do something, such as a backward, while the tensors of a run are in place."""
        with self.placed(run.values, run.frozen):
            return action()

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
            self.raw = subject.looked_at(name_outputs(subject.call(leaves), subject.name))
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
    """A subject that PyTorch's autograd engine differentiates; its attributes are those of `Subject`.

    Attributes:
        silent: The outputs that carry no gradient, which are left out.
    """

    call: TorchCall
    target: object
    name: str
    form: str
    notes: tuple[str, ...] = ()
    silent: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.operands = self.call.operands
        self.traits = Traits(
            several_pending=True,
            backward_twice=True,
            freezable=True,
            torch_engine=True,
            copies=self.form == "torch module",
        )

    def looked_at(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs without the silent ones."""
        return {name: y for name, y in outputs.items() if name not in self.silent} if self.silent else dict(outputs)

    def without_silent(self, run: AutogradRun, declared: Sequence[Tensor]) -> AutogradSubject:
        """The same subject without the outputs that are declared to carry no gradient, beside others that do.

        Args:
            run: a pass of this subject.
            declared: the tensors that `silent_results` collected in it.
        """
        floating = {name: y for name, y in run.raw.items() if y.is_floating_point() or y.is_complex()}
        silent = frozenset(
            name for name, y in floating.items() if not y.requires_grad and any(y is tensor for tensor in declared)
        )
        if not silent or len(silent) == len(floating):
            return self
        names = ", ".join(name for name in floating if name in silent)
        note = f"not looked at: {names} (marked as not differentiable, or a statistic that carries no gradient)"
        return replace(self, silent=silent, notes=(*self.notes, note))

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        private = private_values(self.operands, values)
        tensors = {**private, **self.call.captured}
        with torch.no_grad(), wrap_errors(self.name, "forward"), self.call.placed(private, private):
            outputs = self.looked_at(name_outputs(self.call(tensors), self.name))
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
        if not outputs and own[0].frozen:
            raise SubjectError(f"no output of {self.name} requires grad, so that `backward()` raises")
        if not outputs or not edges:
            return result
        targets = [edge for _, edge in edges]
        leaves = [(name, run.leaves[name]) for name in names for run in own]
        with wrap_errors(self.name, "backward"):
            found, left = self.call.within(own[0], lambda: _differentiate(outputs, targets, seeds, leaves))
        for (name, _), gradient in zip(edges, found, strict=True):
            result[name] = add_gradients(result[name], gradient)
        for name, gradient in left.items():
            result[name] = add_gradients(result[name], gradient)
        return result

    def rebuilt(self, target: object) -> Subject:
        return replace(self, call=self.call.rebuilt(target), target=target)


def _differentiate(
    outputs: Sequence[Tensor],
    targets: Sequence[GradientEdge],
    seeds: Sequence[Tensor],
    leaves: Sequence[tuple[str, Tensor]],
) -> tuple[Sequence[Tensor | None], dict[str, Tensor]]:
    """The gradients of the targets, and what the backward has left in the `grad` of leaves, by name.

    A backward that calls `backward()` itself, as reentrant checkpoints and reversible blocks do, leaves gradients
    there, and may refuse `torch.autograd.grad`, which training does not call either.
    """
    kept = [leaf.grad for _, leaf in leaves]
    try:
        for _, leaf in leaves:
            leaf.grad = None
        found: Sequence[Tensor | None]
        try:
            found = torch.autograd.grad(outputs, targets, seeds, retain_graph=True, allow_unused=True)
        except Exception:  # whatever the subject's backward raises; it may still run as training runs it
            found = (None,) * len(targets)
            for _, leaf in leaves:
                leaf.grad = None
            try:
                torch.autograd.backward(outputs, seeds, retain_graph=True)
            except Exception as error:  # refused in both ways: the first refusal would only hide this one
                raise error from None
        left: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, leaf in leaves:
            if leaf.grad is not None and id(leaf) not in seen:
                seen.add(id(leaf))
                left[name] = leaf.grad if name not in left else left[name] + leaf.grad
        return found, left
    finally:
        for (_, leaf), gradient in zip(leaves, kept, strict=True):
            leaf.grad = gradient


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
    with silent_results() as silent:
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
    call = TorchCall(function, arguments, given | captured, name)
    subject = AutogradSubject(call, target, name, "autograd", tuple(notes)).without_silent(first, silent)
    first.release()
    return subject
