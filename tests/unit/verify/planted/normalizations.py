"""Batch norm, layer norm and RMS norm: dx = (γg - mean(γg) - x̂·mean(γg·x̂))/σ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.verify.planted.fault import Backward, PlantedFault, of_one_input

EPS = 1e-3
_BATCH = (0, 2, 3)


def _channels(t: Tensor) -> Tensor:
    return t.reshape(1, -1, 1, 1)


def _batch_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    normalized = (x - x.mean(_BATCH, keepdim=True)) / (x.var(_BATCH, correction=0, keepdim=True) + EPS).sqrt()
    return _channels(gamma) * normalized + _channels(beta)


def _layer_norm(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + EPS).sqrt()


def _rms_norm(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt()


def _dx(
    g: Tensor,
    x: Tensor,
    axes: tuple[int, ...],
    *,
    mean_term: float = 1,
    deviation_term: float = 1,
    correction: int = 0,
    outside: bool = False,
    eps: float = EPS,
    power: int = 1,
) -> Tensor:
    centered = x - x.mean(axes, keepdim=True)
    variance = x.var(axes, correction=correction, keepdim=True)
    sigma = variance.sqrt() + eps if outside else (variance + eps).sqrt()
    normalized = centered / sigma
    count = centered.numel() / variance.numel()
    spread = (g * normalized).sum(axes, keepdim=True) / (count - correction)
    if outside:
        spread = spread * sigma / variance.sqrt()
    return (g - mean_term * g.mean(axes, keepdim=True) - deviation_term * normalized * spread) / sigma**power


def _batch_backward(
    *,
    dx: Callable[[Tensor, Tensor], Tensor] | None = None,
    dgamma: Callable[[Tensor, Tensor], Tensor] | None = None,
    dbeta: Callable[[Tensor], Tensor] | None = None,
    drop_gamma: bool = False,
) -> Backward:
    def backward(g: Tensor, x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor | None, ...]:
        weighted = g if drop_gamma else g * _channels(gamma)
        normalized = _batch_norm(x, torch.ones_like(gamma), torch.zeros_like(beta))
        return (
            _dx(weighted, x, _BATCH) if dx is None else dx(weighted, x),
            (g * normalized).sum(_BATCH) if dgamma is None else dgamma(g, x),
            g.sum(_BATCH) if dbeta is None else dbeta(g),
        )

    return backward


def _small(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Spread out, off center, and of a variance that does not dwarf ε."""
    return 0.3 + 0.4 * torch.randn(shape, generator=generator, dtype=torch.float64)


def _batch(
    fault: str, kind: str, backward: Backward, *, target: str = "x", mentions: str = "", also: tuple[str, ...] = ()
) -> PlantedFault:
    names, shapes = ("x", "gamma", "beta"), ((4, 3, 3, 2), (3,), (3,))
    return PlantedFault(
        "batch_norm", fault, kind, target, _batch_norm, backward, names, shapes, names[1:], mentions, _small, also=also
    )


def _of_x(fault: str, kind: str, also: tuple[str, ...] = (), **changes: Any) -> PlantedFault:
    """A batch norm whose gradient of x is `_dx` with changes."""
    return _batch(fault, kind, _batch_backward(dx=lambda g, x: _dx(g, x, _BATCH, **changes)), also=also)


def _single(
    layer: str,
    fault: str,
    kind: str,
    forward: Callable[[Tensor], Tensor],
    dx: Callable[[Tensor, Tensor], Tensor],
    also: tuple[str, ...] = (),
) -> PlantedFault:
    return of_one_input(layer, fault, kind, forward, dx, (5, 7), draw=_small, also=also)


def _constant_root(g: Tensor, x: Tensor) -> Tensor:
    return g / (x.square().mean(-1, keepdim=True) + EPS).sqrt()


def _as_instance_norm(g: Tensor, x: Tensor) -> Tensor:
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(F.group_norm(leaf, 4), leaf, g)[0]


def _over_samples(g: Tensor, x: Tensor) -> Tensor:
    normalized = _layer_norm(x)
    deviation = (x.var(-1, correction=0, keepdim=True) + EPS).sqrt()
    return (g - g.mean(0, keepdim=True) - normalized * (g * normalized).mean(0, keepdim=True)) / deviation


_UNNORMALIZED = _batch_backward(dgamma=lambda g, x: (g * x).sum(_BATCH))
_AVERAGED = _batch_backward(dbeta=lambda g: g.mean(_BATCH))
_NEGATED = _batch_backward(dbeta=lambda g: -g.sum(_BATCH))
_IGNORED = _batch_backward(dbeta=lambda g: torch.ones_like(g).sum(_BATCH))
_WEIGHTLESS = _batch_backward(drop_gamma=True)


def _with_output(g: Tensor, x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor | None, ...]:
    dx, _, dbeta = _batch_backward()(g, x, gamma, beta)
    return dx, (g * _batch_norm(x, gamma, beta)).sum(_BATCH), dbeta


_PER_CHANNEL = ("factor-along-axis",)

NORMALIZATIONS = (
    _of_x("mean and deviation constant", "statistics-constant", mean_term=0, deviation_term=0),
    _of_x("mean term missing", "mean-term-missing", ("offset",), mean_term=0),
    _of_x("deviation term missing", "deviation-term-missing", deviation_term=0),
    _of_x("sign of the deviation term", "deviation-term-sign", deviation_term=-1),
    _batch("γ missing", "weight-missing", _WEIGHTLESS, also=_PER_CHANNEL, mentions="gamma"),
    _of_x("unbiased variance", "unbiased-variance", correction=1),
    _of_x("ε outside of the root", "epsilon-outside", outside=True),
    _of_x("divided by σ²", "deviation-squared", _PER_CHANNEL, power=2),
    _batch("dγ with x for x̂", "not-normalized", _UNNORMALIZED, target="gamma"),
    _batch("dγ with y for x̂", "output-for-normalized", _with_output, target="gamma"),
    of_one_input(
        "group_norm",
        "as an instance norm",
        "wrong-axis",
        lambda x: F.group_norm(x, 2),
        _as_instance_norm,
        (2, 4, 3, 2),
        mentions="over 4 groups of channels, where there are 2",
    ),
    _batch("dβ averaged", "factor", _AVERAGED, target="beta", mentions="samples times positions"),
    _batch("dβ of the wrong sign", "sign", _NEGATED, target="beta"),
    _batch("cotangent ignored in dβ", "cotangent-ignored", _IGNORED, target="beta"),
    _single(
        "layer_norm",
        "mean term missing",
        "mean-term-missing",
        _layer_norm,
        lambda g, x: _dx(g, x, (-1,), mean_term=0),
        ("offset",),
    ),
    _single("layer_norm", "means over the samples", "wrong-axis", _layer_norm, _over_samples),
    _single("layer_norm", "ε left out", "epsilon-missing", _layer_norm, lambda g, x: _dx(g, x, (-1,), eps=0.0)),
    _single("rms_norm", "root mean square constant", "deviation-term-missing", _rms_norm, _constant_root),
)
