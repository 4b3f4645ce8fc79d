"""Callables on tensors, `torch.autograd.Function` among them, with the tensors that they capture."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.subjects.arguments import Arguments
from nn_from_scratch.verify.subjects.autograd import AutogradSubject
from nn_from_scratch.verify.subjects.captured import captured_leaves, graph_clock, name_captured
from nn_from_scratch.verify.subjects.torch_calls import FunctionCall

__all__ = ["adapt_function"]


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
        taken = {slot.name for slot in arguments.slots} | set(named)
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
