"""Softmax and log-softmax along one axis: dx = y (g - Σ g y), and dx = g - softmax(x) Σ g."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.families.operation import Family, Fault, with_gradient
from nn_from_scratch.verify.diagnosis.problem import Problem

__all__ = ["softmax"]

Formula = Callable[[Tensor, Tensor, int], Tensor]

_SOFTMAX: tuple[tuple[str, str, Formula], ...] = (
    (
        "jacobian-diagonal",
        "keeps only the diagonal of softmax's Jacobian, y(1 - y)g",
        lambda y, g, d: y * (1 - y) * g,
    ),
    ("sum-term-missing", "lacks the term -y·Σ(g·y)", lambda y, g, d: y * g),
    ("sum-term-only", "has the term -y·Σ(g·y) alone", lambda y, g, d: -y * (g * y).sum(d, keepdim=True)),
    (
        "sum-term-sign",
        "has the wrong sign in the term -y·Σ(g·y)",
        lambda y, g, d: y * (g + (g * y).sum(d, keepdim=True)),
    ),
    (
        "output-factor-missing",
        "lacks the factor y in y(g - Σ(g·y))",
        lambda y, g, d: g - (g * y).sum(d, keepdim=True),
    ),
    (
        "sum-without-output",
        "sums g where it should sum g·y",
        lambda y, g, d: y * (g - g.sum(d, keepdim=True)),
    ),
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
    (
        "neighbour",
        "is that of log-softmax, while the forward is softmax",
        lambda y, g, d: g - y * g.sum(d, keepdim=True),
    ),
)

_LOG_SOFTMAX: tuple[tuple[str, str, Formula], ...] = (
    (
        "output-factor-missing",
        "lacks the factor softmax(x) in its term -softmax(x)·Σg",
        lambda y, g, d: g - g.sum(d, keepdim=True),
    ),
    ("sum-term-only", "has the term -softmax(x)·Σg alone", lambda y, g, d: -y * g.sum(d, keepdim=True)),
    (
        "sum-term-sign",
        "has the wrong sign in the term -softmax(x)·Σg",
        lambda y, g, d: g + y * g.sum(d, keepdim=True),
    ),
    ("sum-missing", "lacks the sum in -softmax(x)·Σg", lambda y, g, d: g - y * g),
    (
        "mean-for-sum",
        "takes the mean of g where it should take the sum",
        lambda y, g, d: g - y * g.mean(d, keepdim=True),
    ),
    (
        "output-for-softmax",
        "uses log-softmax(x) where it should use softmax(x)",
        lambda y, g, d: g - y.log() * g.sum(d, keepdim=True),
    ),
    (
        "sum-over-everything",
        "sums g over the whole tensor, where it should sum over one axis",
        lambda y, g, d: g - y * g.sum(),
    ),
    (
        "neighbour",
        "is that of softmax, while the forward is log-softmax",
        lambda y, g, d: y * (g - (g * y).sum(d, keepdim=True)),
    ),
)


def softmax(problem: Problem) -> Iterator[Family]:
    """Softmax and log-softmax along each axis of x."""
    name, g = problem.context.name, problem.context.only_cotangent
    if name is None or g is None or problem.complex or name not in problem.context.tensors:
        return
    if problem.context.tensors[name].shape != g.shape or g.dim() == 0:
        return
    dims = [axis for axis in range(g.dim()) if g.shape[axis] > 1]
    for label, function, table in (
        ("softmax", torch.softmax, _SOFTMAX),
        ("log-softmax", torch.log_softmax, _LOG_SOFTMAX),
    ):
        for dim in dims:
            faults = [Fault(kind, claim, _surrogate(name, dim, dim, formula)) for kind, claim, formula in table]
            right = _right(label)
            faults.append(
                Fault(
                    "input-for-output",
                    "uses x where it should use y",
                    lambda v, g, dim=dim, f=right: with_gradient(v[name], f(v[name], g, dim), g),  # type: ignore[misc]
                )
            )
            faults += [
                Fault(
                    "wrong-axis",
                    f"sums over {problem.axis(other)}, where it should sum over {problem.axis(dim)}",
                    _surrogate(name, dim, other, right),
                )
                for other in dims
                if other != dim
            ]
            faults += [
                Fault(
                    "wrong-axis",
                    f"is that of a {label} along {problem.axis(other)}, "
                    f"while the forward's is along {problem.axis(dim)}",
                    lambda v, g, f=function, other=other: f(v[name], other),  # type: ignore[misc]
                )
                for other in dims
                if other != dim
            ]
            yield Family(
                f"{label} along {problem.axis(dim)}",
                lambda v, g, f=function, dim=dim: f(v[name], dim),  # type: ignore[misc]
                tuple(faults),
            )


def _right(label: str) -> Formula:
    if label == "softmax":
        return lambda y, g, d: y * (g - (g * y).sum(d, keepdim=True))
    return lambda y, g, d: g - y * g.sum(d, keepdim=True)


def _surrogate(name: str, dim: int, summed: int, formula: Formula) -> Callable[..., Tensor]:
    return lambda v, g: with_gradient(v[name], formula(torch.softmax(v[name], dim), g, summed), g)
