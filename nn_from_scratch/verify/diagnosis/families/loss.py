"""Losses of a prediction and a target, as a mean, a sum or entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify.diagnosis.families.operation import Family, Fault, Forward
from nn_from_scratch.verify.diagnosis.problem import Problem

__all__ = ["loss"]

Entrywise = Callable[[Tensor, Tensor], Tensor]

_LOSSES: Mapping[str, Entrywise] = {
    "the squared error": lambda p, t: (p - t) ** 2,
    "half the squared error": lambda p, t: (p - t) ** 2 / 2,
    "the absolute error": lambda p, t: (p - t).abs(),
    "the Huber loss": lambda p, t: F.huber_loss(p, t, reduction="none"),
    "binary cross-entropy": lambda p, t: -(t * p.log() + (1 - t) * (1 - p).log()),
    "binary cross-entropy with logits": lambda p, t: F.binary_cross_entropy_with_logits(p, t, reduction="none"),
    "the Kullback-Leibler divergence": lambda p, t: F.kl_div(p, t, reduction="none"),
}

_ROWS: Mapping[str, Entrywise] = {
    "cross-entropy": lambda p, t: F.cross_entropy(p, t, reduction="none"),
    "the negative log-likelihood": lambda p, t: F.nll_loss(p, t, reduction="none"),
}

_REDUCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "the mean of ": torch.mean,
    "the sum of ": torch.sum,
    "": lambda t: t,
}


def loss(problem: Problem) -> Iterator[Family]:
    """The losses that fit two of the tensors, the first as the prediction."""
    tensors = problem.context.tensors
    name = problem.context.name
    if name is None or problem.complex or len(tensors) < 2 or problem.context.only_cotangent is None:
        return
    names = list(tensors)
    for other in names:
        if other == name:
            continue
        if tensors[other].dtype.is_floating_point and tensors[other].shape == tensors[name].shape:
            pair = (name, other) if names.index(name) < names.index(other) else (other, name)
            yield from _families(_LOSSES, name, *pair)
            if tensors[name].dim() >= 2:
                yield from _families({"cross-entropy": _ROWS["cross-entropy"]}, name, *pair)
        elif tensors[other].dtype == torch.int64 and tensors[other].dim() == tensors[name].dim() - 1:
            yield from _families(_ROWS, name, name, other)


def _families(table: Mapping[str, Entrywise], target: str, p: str, t: str) -> Iterator[Family]:
    for reduction_label, reduction in _REDUCTIONS.items():
        for label, entrywise in table.items():
            forward = _forward(entrywise, reduction, p, t)
            whole = f"{reduction_label}{label}"
            faults = [
                Fault(
                    "neighbour",
                    f"is that of {reduction_label}{other}, while the forward is {whole}",
                    _forward(f, reduction, p, t),
                )
                for other, f in table.items()
                if other != label and label.removeprefix("half ") != other.removeprefix("half ")
            ]
            faults += _faults(entrywise, reduction, target, p, t)
            yield Family(whole, forward, tuple(faults))


def _forward(f: Entrywise, reduction: Callable[[Tensor], Tensor], p: str, t: str) -> Forward:
    return lambda v, g: reduction(f(v[p], v[t]))


def _faults(f: Entrywise, reduction: Callable[[Tensor], Tensor], target: str, p: str, t: str) -> Iterator[Fault]:
    if f in _ROWS.values():
        yield Fault(
            "target-missing",
            "is softmax(x) without the target subtracted from it",
            lambda v, g: reduction(torch.logsumexp(v[p], 1)),
        )
        return
    other = t if target == p else p
    yield Fault(
        "operand-missing",
        f"is what it would be if {other!r} was zero: a term with {other!r} is missing",
        lambda v, g: reduction(f(v[p], torch.zeros_like(v[t])) if target == p else f(torch.zeros_like(v[p]), v[t])),
    )
    if target == p:
        yield Fault(
            "value-for-derivative",
            "has the value of the loss in each entry where it should have the derivative",
            lambda v, g: reduction(v[p] * f(v[p], v[t]).detach()),
        )
        yield Fault(
            "operands-exchanged",
            f"has {p!r} and {t!r} exchanged inside",
            lambda v, g: reduction(v[p] * _slope(f, v[t], v[p])),
        )


def _slope(f: Entrywise, p: Tensor, t: Tensor) -> Tensor:
    leaf = p.detach().clone().requires_grad_()
    return torch.autograd.grad(f(leaf, t.detach()).sum(), leaf)[0]
