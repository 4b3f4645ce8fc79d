"""Batch norm, layer norm and RMS norm: dx = (γg - mean(γg) - x̂·mean(γg·x̂))/σ."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.unit.verify.planted.fault import Backward, PlantedFault

EPS = 1e-3
_BATCH = (0, 2, 3)


def _channels(t: Tensor) -> Tensor:
    return t.reshape(1, -1, 1, 1)


def _batch_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    normalised = (x - x.mean(_BATCH, keepdim=True)) / (x.var(_BATCH, correction=0, keepdim=True) + EPS).sqrt()
    return _channels(gamma) * normalised + _channels(beta)


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
    centred = x - x.mean(axes, keepdim=True)
    variance = x.var(axes, correction=correction, keepdim=True)
    sigma = variance.sqrt() + eps if outside else (variance + eps).sqrt()
    normalised = centred / sigma
    count = centred.numel() / variance.numel()
    spread = (g * normalised).sum(axes, keepdim=True) / (count - correction)
    if outside:
        spread = spread * sigma / variance.sqrt()
    return (g - mean_term * g.mean(axes, keepdim=True) - deviation_term * normalised * spread) / sigma**power


def _batch_backward(
    *,
    dx: Callable[[Tensor, Tensor], Tensor] | None = None,
    dgamma: Callable[[Tensor, Tensor], Tensor] | None = None,
    dbeta: Callable[[Tensor], Tensor] | None = None,
    drop_gamma: bool = False,
) -> Backward:
    def backward(g: Tensor, x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor | None, ...]:
        weighted = g if drop_gamma else g * _channels(gamma)
        normalised = _batch_norm(x, torch.ones_like(gamma), torch.zeros_like(beta))
        return (
            _dx(weighted, x, _BATCH) if dx is None else dx(weighted, x),
            (g * normalised).sum(_BATCH) if dgamma is None else dgamma(g, x),
            g.sum(_BATCH) if dbeta is None else dbeta(g),
        )

    return backward


def _small(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Spread out, off centre, and of a variance that does not dwarf ε."""
    return 0.3 + 0.4 * torch.randn(shape, generator=generator, dtype=torch.float64)


def _batch(
    fault: str,
    kind: str,
    backward: Backward,
    *,
    target: str = "x",
    mentions: str = "",
    also: tuple[str, ...] = (),
) -> PlantedFault:
    return PlantedFault(
        "batch_norm",
        fault,
        kind,
        target,
        _batch_norm,
        backward,
        ("x", "gamma", "beta"),
        ((4, 3, 3, 2), (3,), (3,)),
        ("gamma", "beta"),
        mentions,
        _small,
        also=also,
    )


def _single(
    layer: str,
    fault: str,
    kind: str,
    forward: Callable[[Tensor], Tensor],
    dx: Callable[[Tensor, Tensor], Tensor],
    also: tuple[str, ...] = (),
) -> PlantedFault:
    return PlantedFault(
        layer, fault, kind, "x", forward, lambda g, x: (dx(g, x),), ("x",), ((5, 7),), draw=_small, also=also
    )


NORMALIZATIONS = (
    _batch(
        "mean and deviation constant",
        "statistics-constant",
        _batch_backward(dx=lambda g, x: _dx(g, x, _BATCH, mean_term=0, deviation_term=0)),
    ),
    _batch(
        "mean term missing",
        "mean-term-missing",
        _batch_backward(dx=lambda g, x: _dx(g, x, _BATCH, mean_term=0)),
        also=("offset",),
    ),
    _batch(
        "deviation term missing",
        "deviation-term-missing",
        _batch_backward(dx=lambda g, x: _dx(g, x, _BATCH, deviation_term=0)),
    ),
    _batch(
        "sign of the deviation term",
        "deviation-term-sign",
        _batch_backward(dx=lambda g, x: _dx(g, x, _BATCH, deviation_term=-1)),
    ),
    _batch(
        "γ missing",
        "weight-missing",
        _batch_backward(drop_gamma=True),
        also=("factor-along-axis",),
        mentions="gamma",
    ),
    _batch(
        "unbiased variance",
        "unbiased-variance",
        _batch_backward(dx=lambda g, x: _dx(g, x, _BATCH, correction=1)),
    ),
    _batch(
        "ε outside of the root",
        "epsilon-outside",
        _batch_backward(dx=lambda g, x: _dx(g, x, _BATCH, outside=True)),
    ),
    _batch(
        "divided by σ²",
        "deviation-squared",
        _batch_backward(dx=lambda g, x: _dx(g, x, _BATCH, power=2)),
        also=("factor-along-axis",),
    ),
    _batch(
        "dγ with x for x̂",
        "not-normalized",
        _batch_backward(dgamma=lambda g, x: (g * x).sum(_BATCH)),
        target="gamma",
    ),
    _batch(
        "dβ averaged",
        "factor",
        _batch_backward(dbeta=lambda g: g.mean(_BATCH)),
        target="beta",
        mentions="samples times positions",
    ),
    _batch("dβ of the wrong sign", "sign", _batch_backward(dbeta=lambda g: -g.sum(_BATCH)), target="beta"),
    _batch(
        "cotangent ignored in dβ",
        "cotangent-ignored",
        _batch_backward(dbeta=lambda g: torch.ones_like(g).sum(_BATCH)),
        target="beta",
    ),
    _single(
        "layer_norm",
        "mean term missing",
        "mean-term-missing",
        _layer_norm,
        lambda g, x: _dx(g, x, (-1,), mean_term=0),
        ("offset",),
    ),
    _single("layer_norm", "ε left out", "epsilon-missing", _layer_norm, lambda g, x: _dx(g, x, (-1,), eps=0.0)),
    _single(
        "rms_norm",
        "root mean square constant",
        "deviation-term-missing",
        _rms_norm,
        lambda g, x: g / (x.square().mean(-1, keepdim=True) + EPS).sqrt(),
    ),
)
