"""Reductions and scans along one axis or over everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import SPECIFIC, TIE_BREAK
from nn_from_scratch.verify.diagnosis.families.operation import Fault, Forward, Operation, with_gradient
from nn_from_scratch.verify.diagnosis.problem import Problem

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


def reduction(problem: Problem) -> Iterator[Operation]:
    """Reductions of x to the cotangent's shape, division by a Euclidean norm, and running sums."""
    if problem.unary is None or problem.unary[1].dim() == 0:
        return
    name, x, g = problem.unary
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


def _reductions(name: str, axes: tuple[int, ...]) -> Iterator[Operation]:
    forwards = {label: _reduced(name, axes, function) for label, function in _REDUCTIONS.items()}
    for label, forward in forwards.items():
        others = (
            Fault("neighbor", f"is that of {other}, while the forward is {label}", wrong)
            for other, wrong in forwards.items()
            if other != label
        )
        yield Operation(label, forward, (*_of_spread(name, axes, label), *others))


def _reduced(name: str, axes: tuple[int, ...], function: Along) -> Forward:
    return lambda v, g: function(v[name], axes).reshape(g.shape)


def _of_spread(name: str, axes: tuple[int, ...], label: str) -> Iterator[Fault]:
    """Faults of the derivative of a variance, 2(x - mean)/n, and of a deviation s, (x - mean)/(n·s)."""
    if "variance" not in label and "deviation" not in label:
        return
    function = _REDUCTIONS[label]
    variance = _REDUCTIONS[label.replace("standard deviation", "variance")]

    def about_zero(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        x = v[name].detach()
        centered = x - x.mean(axes, keepdim=True)
        scale = variance(x, axes) / centered.square().sum(axes, keepdim=True)
        if "deviation" in label:
            scale = scale / (2 * function(x, axes))
        return (scale * v[name].square().sum(axes, keepdim=True)).reshape(g.shape)

    yield Fault("mean-not-subtracted", "uses x where it should use x - mean", about_zero, SPECIFIC - TIE_BREAK)
    if "deviation" in label:
        half = _reduced(name, axes, lambda x, d: 0.5 * variance(x, d))
        claim = "lacks the factor 1/s in the derivative of the deviation s"
        yield Fault("deviation-missing", claim, half, SPECIFIC - TIE_BREAK)


def _unit(name: str, axes: tuple[int, ...]) -> Operation:
    def norm(x: Tensor) -> Tensor:
        return x.square().sum(axes, keepdim=True).sqrt()

    def without_factor(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        y = v[name] / norm(v[name])
        return with_gradient(v[name], g - y * (g * y).sum(axes, keepdim=True), g)

    def turned(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        return v[name] / (2 * norm(v[name]).detach() - norm(v[name]))

    return Operation(
        "division by the Euclidean norm",
        lambda v, g: v[name] / norm(v[name]),
        (
            Fault("norm-constant", "takes the norm for a constant", lambda v, g: v[name] / norm(v[name]).detach()),
            Fault("norm-term-sign", "has the wrong sign in the term that comes through the norm", turned),
            Fault("norm-factor-missing", "lacks the factor 1/‖x‖", without_factor),
        ),
    )


def _scan(name: str, dim: int) -> Operation:
    def forwards(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        return with_gradient(v[name], g.cumsum(dim), g)

    def exclusive(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        return with_gradient(v[name], g.flip(dim).cumsum(dim).flip(dim) - g, g)

    direction = "sums the cotangent from the start, where it should sum it from the end"
    own = "leaves each entry's own cotangent out of the sum"
    return Operation(
        "a running sum",
        lambda v, g: v[name].cumsum(dim),
        (
            Fault("scan-direction", direction, forwards, SPECIFIC - TIE_BREAK),
            Fault("scan-exclusive", own, exclusive, SPECIFIC - TIE_BREAK),
        ),
    )
