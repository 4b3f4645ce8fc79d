"""Maxima, variances, deviations and running sums along an axis."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.unit.verify.planted.fault import PlantedFault, of_one_input


def _along(
    layer: str,
    fault: str,
    kind: str,
    forward: Callable[[Tensor], Tensor],
    dx: Callable[[Tensor, Tensor], Tensor],
    mentions: str,
    also: tuple[str, ...] = (),
) -> PlantedFault:
    """`dx` takes the cotangent, with the reduced axis kept, and x."""

    def kept(g: Tensor, x: Tensor) -> Tensor:
        return dx(g if g.dim() == x.dim() else g[:, None], x)

    return of_one_input(layer, fault, kind, forward, kept, (4, 5), mentions=mentions, also=also)


def _maximum(x: Tensor) -> Tensor:
    return x.amax(1)


def _variance(x: Tensor) -> Tensor:
    return x.var(1, correction=0)


def _deviation(x: Tensor, correction: int = 0) -> Tensor:
    return x.std(1, correction=correction, keepdim=True)


def _unbiased(x: Tensor) -> Tensor:
    return _deviation(x, 1)


def _first(g: Tensor, x: Tensor) -> Tensor:
    return torch.cat([g, torch.zeros_like(x[:, 1:])], dim=1)


def _every(g: Tensor, x: Tensor) -> Tensor:
    return g.expand(x.shape).clone()


def _mean(g: Tensor, x: Tensor) -> Tensor:
    return g.expand(x.shape) / 5


def _uncentered(g: Tensor, x: Tensor) -> Tensor:
    return g * 2 * x / 5


def _uncentered_root(g: Tensor, x: Tensor) -> Tensor:
    return g * x / 5 / _deviation(x)


def _rootless(g: Tensor, x: Tensor) -> Tensor:
    return g * (x - x.mean(1, keepdim=True)) / 4


def _biased(g: Tensor, x: Tensor) -> Tensor:
    return 2 / 5 * g * (x - x.mean(1, keepdim=True))


_NO_MEAN = "uses x where it should use x - mean"
_NO_ROOT = "lacks the factor 1/s in the derivative of the deviation s"

REDUCTIONS = (
    _along(
        "amax", "the first entry", "pool-fixed-entry", _maximum, _first, "goes to the first entry, not to the maximum"
    ),
    _along(
        "amax", "every entry", "pool-everything", _maximum, _every, "passes the cotangent to every entry", ("reduced",)
    ),
    _along("amax", "the mean", "pool-spread", _maximum, _mean, "is that of the mean along axis 1", ("reduced",)),
    _along("variance", "mean forgotten", "mean-not-subtracted", _variance, _uncentered, _NO_MEAN, ("offset",)),
    _along("deviation", "mean forgotten", "mean-not-subtracted", _deviation, _uncentered_root, _NO_MEAN, ("offset",)),
    _along("deviation", "1/s forgotten", "deviation-missing", _unbiased, _rootless, _NO_ROOT, ("factor-along-axis",)),
    _along("unbiased variance", "n for n - 1", "factor", lambda x: x.var(1), _biased, "n/(n-1)"),
)
