"""Losses of a prediction and a target, as a mean, a sum or entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import HUBER_DELTAS
from nn_from_scratch.verify.diagnosis.families.operation import Fault, Forward, Operation
from nn_from_scratch.verify.diagnosis.problem import Problem

Entrywise = Callable[[Tensor, Tensor], Tensor]


def _huber(p: Tensor, t: Tensor, delta: float) -> Tensor:
    return F.huber_loss(p, t, reduction="none", delta=delta)


_LOSSES: Mapping[str, Entrywise] = {
    "the squared error": lambda p, t: (p - t) ** 2,
    "half the squared error": lambda p, t: (p - t) ** 2 / 2,
    "the absolute error": lambda p, t: (p - t).abs(),
    "the Huber loss": lambda p, t: F.huber_loss(p, t, reduction="none"),
    **{f"the Huber loss with δ = {delta:g}": partial(_huber, delta=delta) for delta in HUBER_DELTAS},
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


def loss(problem: Problem) -> Iterator[Operation]:
    """The losses that fit two of the tensors, the first as the prediction."""
    if problem.unary is None:
        return
    tensors, (name, x, _) = problem.context.tensors, problem.unary
    names = list(tensors)
    for other in names:
        if other == name:
            continue
        if tensors[other].dtype.is_floating_point and tensors[other].shape == x.shape:
            pair = (name, other) if names.index(name) < names.index(other) else (other, name)
            yield from _losses(_LOSSES, name, *pair)
            if x.dim() >= 2:
                yield from _losses({"cross-entropy": _ROWS["cross-entropy"]}, name, *pair)
        elif tensors[other].dtype == torch.int64 and tensors[other].dim() == x.dim() - 1:
            yield from _losses(_ROWS, name, name, other)


def _losses(table: Mapping[str, Entrywise], target: str, p: str, t: str) -> Iterator[Operation]:
    for of, reduction in _REDUCTIONS.items():
        forwards = {label: _forward(entrywise, reduction, p, t) for label, entrywise in table.items()}
        for label, entrywise in table.items():
            others = (
                Fault("neighbor", f"is that of {of}{other}, while the forward is {of}{label}", forward)
                for other, forward in forwards.items()
                if label.removeprefix("half ") != other.removeprefix("half ")
            )
            yield Operation(f"{of}{label}", forwards[label], (*others, *_faults(entrywise, reduction, target, p, t)))


def _forward(f: Entrywise, reduction: Callable[[Tensor], Tensor], p: str, t: str) -> Forward:
    return lambda v, g: reduction(f(v[p], v[t]))


def _faults(f: Entrywise, reduction: Callable[[Tensor], Tensor], target: str, p: str, t: str) -> Iterator[Fault]:
    if f in _ROWS.values():
        claim = "is softmax(x) without the target subtracted from it"
        yield Fault("target-missing", claim, lambda v, g: reduction(torch.logsumexp(v[p], 1)))
        return
    other = t if target == p else p
    forward = _forward(f, reduction, p, t)
    claim = f"is what it would be if {other!r} was zero: a term with {other!r} is missing"
    yield Fault("operand-missing", claim, lambda v, g: forward({**v, other: torch.zeros_like(v[other])}, g))
    if target == p:
        claim = "has the value of the loss in each entry where it should have the derivative"
        yield Fault("value-for-derivative", claim, lambda v, g: reduction(v[p] * f(v[p], v[t]).detach()))
        exchanged = f"has {p!r} and {t!r} exchanged inside"
        yield Fault("operands-exchanged", exchanged, lambda v, g: reduction(v[p] * _slope(f, v[t], v[p])))


def _slope(f: Entrywise, p: Tensor, t: Tensor) -> Tensor:
    leaf = p.detach().clone().requires_grad_()
    return torch.autograd.grad(f(leaf, t.detach()).sum(), leaf)[0]
