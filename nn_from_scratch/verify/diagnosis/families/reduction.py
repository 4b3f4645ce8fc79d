"""Reductions and scans along one axis or over everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from nn_from_scratch.verify.diagnosis.families.operation import Family, Fault, with_gradient
from nn_from_scratch.verify.diagnosis.problem import Problem

__all__ = ["reduction"]

Along = Callable[[Tensor, tuple[int, ...]], Tensor]

_REDUCTIONS: Mapping[str, Along] = {
    "the sum": lambda x, d: x.sum(d, keepdim=True),
    "the mean": lambda x, d: x.mean(d, keepdim=True),
    "the biased variance": lambda x, d: x.var(d, correction=0, keepdim=True),
    "the unbiased variance": lambda x, d: x.var(d, correction=1, keepdim=True),
    "the biased standard deviation": lambda x, d: x.std(d, correction=0, keepdim=True),
    "the unbiased standard deviation": lambda x, d: x.std(d, correction=1, keepdim=True),
    "the sum of squares": lambda x, d: x.square().sum(d, keepdim=True),
    "the mean square": lambda x, d: x.square().mean(d, keepdim=True),
    "the Euclidean norm": lambda x, d: x.square().sum(d, keepdim=True).sqrt(),
    "the sum of magnitudes": lambda x, d: x.abs().sum(d, keepdim=True),
    "log-sum-exp": lambda x, d: x.logsumexp(d, keepdim=True),
    "the sum of exponentials": lambda x, d: x.exp().sum(d, keepdim=True),
}


def reduction(problem: Problem) -> Iterator[Family]:
    """Reductions of x to the cotangent's shape, division by a Euclidean norm, and running sums."""
    name, g = problem.context.name, problem.context.only_cotangent
    if name is None or g is None or problem.complex or name not in problem.context.tensors:
        return
    x = problem.context.tensors[name]
    if x.dim() == 0:
        return
    for axes in [tuple(range(x.dim())), *((axis,) for axis in range(x.dim()))]:
        if x.shape[axes[0]] == 1 and len(axes) == 1:
            continue
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
        if tuple(g.shape) in (kept, tuple(size for axis, size in enumerate(x.shape) if axis not in axes)):
            yield from _reductions(name, axes)
        if g.shape == x.shape:
            yield _unit(name, axes)
            if len(axes) == 1:
                yield _scan(name, axes[0])


def _reductions(name: str, axes: tuple[int, ...]) -> Iterator[Family]:
    for label, function in _REDUCTIONS.items():
        faults = _of_spread(name, axes, label) + tuple(
            Fault(
                "neighbour",
                f"is that of {other}, while the forward is {label}",
                lambda v, g, f=neighbour: f(v[name], axes).reshape(g.shape),  # type: ignore[misc]
            )
            for other, neighbour in _REDUCTIONS.items()
            if other != label
        )
        yield Family(label, lambda v, g, f=function: f(v[name], axes).reshape(g.shape), faults)  # type: ignore[misc]


def _of_spread(name: str, axes: tuple[int, ...], label: str) -> tuple[Fault, ...]:
    """Faults of the derivative of a variance, 2(x - mean)/n, and of a deviation s, (x - mean)/(n·s)."""
    if "variance" not in label and "deviation" not in label:
        return ()
    function = _REDUCTIONS[label]
    variance = _REDUCTIONS[label.replace("standard deviation", "variance")]

    def about_zero(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        x = v[name].detach()
        centred = x - x.mean(axes, keepdim=True)
        scale = variance(x, axes) / centred.square().sum(axes, keepdim=True)
        if "deviation" in label:
            scale = scale / (2 * function(x, axes))
        return (scale * v[name].square().sum(axes, keepdim=True)).reshape(g.shape)

    faults = [Fault("mean-not-subtracted", "uses x where it should use x - mean", about_zero, 2.9)]
    if "deviation" in label:
        faults.append(
            Fault(
                "deviation-missing",
                "lacks the factor 1/s in the derivative of the deviation s",
                lambda v, g: 0.5 * variance(v[name], axes).reshape(g.shape),
                2.9,
            )
        )
    return tuple(faults)


def _unit(name: str, axes: tuple[int, ...]) -> Family:
    def norm(v: Mapping[str, Tensor]) -> Tensor:
        return v[name].square().sum(axes, keepdim=True).sqrt()

    return Family(
        "division by the Euclidean norm",
        lambda v, g: v[name] / norm(v),
        (
            Fault("norm-constant", "takes the norm for a constant", lambda v, g: v[name] / norm(v).detach()),
            Fault(
                "norm-term-sign",
                "has the wrong sign in the term that comes through the norm",
                lambda v, g: v[name] / (2 * norm(v).detach() - norm(v)),
            ),
            Fault(
                "norm-factor-missing",
                "lacks the factor 1/‖x‖",
                lambda v, g: with_gradient(
                    v[name], g - v[name] / norm(v) * (g * v[name] / norm(v)).sum(axes, keepdim=True), g
                ),
            ),
        ),
    )


def _scan(name: str, dim: int) -> Family:
    return Family(
        "a running sum",
        lambda v, g: v[name].cumsum(dim),
        (
            Fault(
                "scan-direction",
                "sums the cotangent from the start, where it should sum it from the end",
                lambda v, g: with_gradient(v[name], g.cumsum(dim), g),
                2.9,
            ),
            Fault(
                "scan-exclusive",
                "leaves each entry's own cotangent out of the sum",
                lambda v, g: with_gradient(v[name], g.flip(dim).cumsum(dim).flip(dim) - g, g),
                2.9,
            ),
        ),
    )
