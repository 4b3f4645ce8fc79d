"""Softmax and log-softmax along one axis: dx = y (g - Σ g y), and dx = g - softmax(x) Σ g."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.families.operation import Fault, Forward, Operation, with_gradient
from nn_from_scratch.verify.diagnosis.problem import Problem

Formula = Callable[[Tensor, Tensor, int], Tensor]
"""The gradient from softmax(x), the cotangent and the axis."""


def _sum(t: Tensor, d: int) -> Tensor:
    return t.sum(d, keepdim=True)


def right_softmax(y: Tensor, g: Tensor, d: int) -> Tensor:
    """The gradient of softmax from its output, the cotangent and the axis."""
    return y * (g - _sum(g * y, d))


def _log_softmax(y: Tensor, g: Tensor, d: int) -> Tensor:
    return g - y * _sum(g, d)


SOFTMAX_FAULTS: tuple[tuple[str, str, Formula], ...] = (
    ("jacobian-diagonal", "keeps only the diagonal of softmax's Jacobian, y(1 - y)g", lambda y, g, d: y * (1 - y) * g),
    ("sum-term-missing", "lacks the term -y·Σ(g·y)", lambda y, g, d: y * g),
    ("sum-term-only", "has the term -y·Σ(g·y) alone", lambda y, g, d: -y * _sum(g * y, d)),
    ("sum-term-sign", "has the wrong sign in the term -y·Σ(g·y)", lambda y, g, d: y * (g + _sum(g * y, d))),
    ("output-factor-missing", "lacks the factor y in y(g - Σ(g·y))", lambda y, g, d: g - _sum(g * y, d)),
    ("sum-without-output", "sums g where it should sum g·y", lambda y, g, d: y * (g - _sum(g, d))),
    (
        "mean-for-sum",
        "takes the mean of g·y where it should take the sum",
        lambda y, g, d: y * (g - (g * y).mean(d, keepdim=True)),
    ),
    (
        "sum-over-everything",
        "sums g·y over the whole tensor, where it should sum over one axis",
        lambda y, g, d: y * (g - (g * y).sum()),
    ),
    ("neighbor", "is that of log-softmax, while the forward is softmax", _log_softmax),
)

_LOG_SOFTMAX: tuple[tuple[str, str, Formula], ...] = (
    ("output-factor-missing", "lacks the factor softmax(x) in its term -softmax(x)·Σg", lambda y, g, d: g - _sum(g, d)),
    ("sum-term-only", "has the term -softmax(x)·Σg alone", lambda y, g, d: -y * _sum(g, d)),
    ("sum-term-sign", "has the wrong sign in the term -softmax(x)·Σg", lambda y, g, d: g + y * _sum(g, d)),
    ("sum-missing", "lacks the sum in -softmax(x)·Σg", lambda y, g, d: g - y * g),
    (
        "mean-for-sum",
        "takes the mean of g where it should take the sum",
        lambda y, g, d: g - y * g.mean(d, keepdim=True),
    ),
    (
        "output-for-softmax",
        "uses log-softmax(x) where it should use softmax(x)",
        lambda y, g, d: g - y.log() * _sum(g, d),
    ),
    (
        "sum-over-everything",
        "sums g over the whole tensor, where it should sum over one axis",
        lambda y, g, d: g - y * g.sum(),
    ),
    ("neighbor", "is that of softmax, while the forward is log-softmax", right_softmax),
)


def softmax(problem: Problem) -> Iterator[Operation]:
    """Softmax and log-softmax along each axis of x."""
    if problem.unary is None or problem.unary[1].shape != problem.unary[2].shape:
        return
    name, _, g = problem.unary
    dims = [axis for axis in range(g.dim()) if g.shape[axis] > 1]
    for label, function, right, table in (
        ("softmax", torch.softmax, right_softmax, SOFTMAX_FAULTS),
        ("log-softmax", torch.log_softmax, _log_softmax, _LOG_SOFTMAX),
    ):
        forwards = {dim: _of(name, function, dim) for dim in dims}
        for dim in dims:
            here, others = problem.axis(dim), [other for other in dims if other != dim]
            faults = [Fault(kind, claim, _surrogate(name, dim, dim, formula)) for kind, claim, formula in table]
            used = _surrogate(name, dim, dim, right, function=lambda x, d: x)
            faults.append(Fault("input-for-output", "uses x where it should use y", used))
            for other in others:
                claim = f"sums over {problem.axis(other)}, where it should sum over {here}"
                faults.append(Fault("wrong-axis", claim, _surrogate(name, dim, other, right)))
            for other in others:
                claim = f"is that of a {label} along {problem.axis(other)}, while the forward's is along {here}"
                faults.append(Fault("wrong-axis", claim, forwards[other]))
            yield Operation(f"{label} along {here}", forwards[dim], tuple(faults))


def _of(name: str, function: Callable[..., Tensor], dim: int) -> Forward:
    return lambda v, g: function(v[name], dim)


def _surrogate(
    name: str, dim: int, summed: int, formula: Formula, *, function: Callable[[Tensor, int], Tensor] = torch.softmax
) -> Forward:
    return lambda v, g: with_gradient(v[name], formula(function(v[name], dim), g, summed), g)
