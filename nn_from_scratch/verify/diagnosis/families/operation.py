"""A reference operation and its faults, as data: functions whose gradient autograd computes.

A fault of a backward is written as a *surrogate forward*: a torch function whose gradient is the faulty
gradient. Holding a mean constant, for example, is `x - x.mean().detach()`. So one function computes right
and faulty gradients, and a family is a table: a fault is added by one line in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import SPECIFIC
from nn_from_scratch.verify.diagnosis.problem import Cotangents, DiagnosisContext, plain

Forward: TypeAlias = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Values by name and the cotangent (which only some faults read) to the output."""


@dataclass(frozen=True)
class Fault:
    """A known mistake in the backward of an operation.

    Attributes:
        kind: The diagnosis' identifier.
        claim: Completes "The gradient of x ...".
        surrogate: A forward whose gradient is the faulty one.
        complexity: See `Explanation`.
    """

    kind: str
    claim: str
    surrogate: Forward
    complexity: float = SPECIFIC


@dataclass(frozen=True)
class Operation:
    """An operation that the subject may be, and the faults that its backward may have.

    Attributes:
        label: How a sentence calls the operation.
        rank: Added to the complexity of every fault; an operation with a guessed constant ranks behind one without.
        sure: Entries of the gradient by which the operation is recognized; all if None (at a tie of a maximum
            the true gradient is a matter of convention).
    """

    label: str
    forward: Forward
    faults: tuple[Fault, ...] = ()
    rank: float = 0.0
    sure: Tensor | None = None


def with_gradient(x: Tensor, gradient: Tensor, g: Tensor) -> Tensor:
    """A surrogate output whose gradient with respect to x, for the cotangent g, is the one given."""
    return (x * gradient.detach()).sum() * g / (g * g).sum()


def scale_gradient(x: Tensor, factor: Tensor | float) -> Tensor:
    """x, with its gradient multiplied on the way back: 0 holds x constant, -1 turns the sign."""
    return x.detach() + factor * (x - x.detach())


def gradient_of(
    forward: Forward,
    context: DiagnosisContext,
    cotangents: Cotangents | None = None,
    changed: Mapping[str, Tensor] | None = None,
) -> Tensor | None:
    """The gradient of <forward(tensors), cotangent> with respect to the context's tensor, float64 on the CPU.

    Args:
        context: The tensors, the name of one, and the cotangent.
        cotangents: Taken in place of the context's.
        changed: Tensors taken in place of the context's, by name.

    Returns:
        None where the forward does not accept the tensors, its output does not have the cotangent's shape, or it does
        not depend on the tensor.
    """
    cotangents = context.cotangents if cotangents is None else cotangents
    if len(cotangents) != 1 or context.name is None:
        return None
    g = plain(next(iter(cotangents.values())))
    with torch.inference_mode(False), torch.enable_grad():
        copies = {name: _leaf(value) for name, value in {**context.tensors, **(changed or {})}.items()}
        leaf = copies[context.name].requires_grad_()
        y = _attempt(forward, copies, g)
        if y is None or y.shape != g.shape or not y.requires_grad:
            return None
        found: tuple[Tensor | None, ...] = torch.autograd.grad(y, leaf, g, allow_unused=True)
    return None if found[0] is None else found[0].detach()


def output_of(forward: Forward, values: Mapping[str, Tensor], g: Tensor) -> Tensor | None:
    """The value of a forward in float64, or None where it does not accept the values."""
    with torch.inference_mode(False), torch.no_grad():
        return _attempt(forward, {name: _leaf(value) for name, value in values.items()}, g)


def _attempt(forward: Forward, values: Mapping[str, Tensor], g: Tensor) -> Tensor | None:
    try:
        return forward(values, g)
    except (RuntimeError, IndexError, ValueError):
        return None  # a candidate that does not fit these shapes


def _leaf(value: Tensor) -> Tensor:
    """A float64 copy; integers stay what they are, since they are indices or masks."""
    return plain(value) if value.dtype.is_floating_point else value.detach().cpu().clone()
