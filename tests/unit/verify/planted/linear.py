"""Linear layers, y = x·Wᵀ + b: dx = g·W, dW = gᵀ·x, db = Σ g over the samples."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tests.unit.verify.planted.fault import Backward, PlantedFault

_WIDE = ((6, 5), (4, 5), (4,))
_SQUARE = ((6, 5), (5, 5), (5,))
_AS_MANY_SAMPLES = ((4, 5), (4, 5), (4,))


def _forward(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return x @ w.T + b


def _with(*, dx: Backward | None = None, dw: Backward | None = None, db: Backward | None = None) -> Backward:
    """The right backward with one of its gradients replaced."""

    def backward(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
        return (
            g @ w if dx is None else dx(g, x, w)[0],
            g.T @ x if dw is None else dw(g, x, w)[0],
            g.sum(0) if db is None else db(g, x, w)[0],
        )

    return backward


def _overwriting(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor]:
    dw = torch.zeros_like(w)
    for sample in range(len(x)):
        dw = torch.outer(g[sample], x[sample])
    return (dw,)


def _first_sample(g: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor]:
    dx = torch.zeros_like(x)
    dx[0] = g[0] @ w
    return (dx,)


_BASE = PlantedFault(
    "linear",
    "",
    "",
    "weight",
    _forward,
    _with(),
    ("x", "weight", "bias"),
    _WIDE,
    ("weight", "bias"),
)

LINEAR = (
    replace(_BASE, fault="sign of dW", kind="sign", backward=_with(dw=lambda g, x, w: (-(g.T @ x),))),
    replace(
        _BASE,
        fault="dW divided by N",
        kind="factor",
        mentions="N, the batch size",
        backward=_with(dw=lambda g, x, w: (g.T @ x / len(x),)),
    ),
    replace(
        _BASE,
        fault="dW transposed",
        kind="transposed",
        shapes=_SQUARE,
        backward=_with(dw=lambda g, x, w: (x.T @ g,)),
    ),
    replace(
        _BASE,
        fault="dx with W transposed",
        kind="operand-transposed",
        target="x",
        mentions="'weight' transposed",
        shapes=_SQUARE,
        backward=_with(dx=lambda g, x, w: (g @ w.T,)),
    ),
    replace(
        _BASE,
        fault="db zero",
        kind="zero",
        target="bias",
        backward=_with(db=lambda g, x, w: (torch.zeros(len(w), dtype=g.dtype),)),
    ),
    replace(
        _BASE,
        fault="db None",
        kind="none",
        target="bias",
        also=("zero",),
        backward=_with(db=lambda g, x, w: (None,)),
    ),
    replace(
        _BASE,
        fault="db summed over the features",
        kind="wrong-axis",
        target="bias",
        shapes=_AS_MANY_SAMPLES,
        backward=_with(db=lambda g, x, w: (g.sum(1),)),
    ),
    replace(
        _BASE,
        fault="db not summed",
        kind="broadcast-not-summed",
        target="bias",
        needs_pair=True,
        backward=_with(db=lambda g, x, w: (g,)),
    ),
    replace(
        _BASE,
        fault="cotangent ignored in dx",
        kind="cotangent-ignored",
        target="x",
        backward=_with(dx=lambda g, x, w: (torch.ones_like(g) @ w,)),
    ),
    replace(_BASE, fault="dW of the last sample", kind="one-slice-only", backward=_with(dw=_overwriting)),
    replace(
        _BASE,
        fault="dx of the first sample",
        kind="first-sample-only",
        target="x",
        backward=_with(dx=_first_sample),
    ),
    replace(
        _BASE,
        fault="samples of dx in reverse",
        kind="flipped",
        target="x",
        also=("reordered",),
        backward=_with(dx=lambda g, x, w: (g.flip(0) @ w,)),
    ),
    replace(
        _BASE,
        fault="|dW|",
        kind="absolute-value",
        backward=_with(dw=lambda g, x, w: ((g.T @ x).abs(),)),
    ),
    replace(
        _BASE,
        fault="dW clipped",
        kind="clipped",
        backward=_with(dw=lambda g, x, w: ((g.T @ x).clamp(-1, 1),)),
    ),
    replace(
        _BASE,
        fault="weight decay's constant left in dW",
        kind="offset",
        backward=_with(dw=lambda g, x, w: (g.T @ x + 0.25,)),
    ),
    replace(
        _BASE,
        fault="dW reshaped, not transposed",
        kind="reshaped",
        backward=_with(dw=lambda g, x, w: ((x.T @ g).reshape(w.shape),)),
    ),
    replace(
        _BASE,
        fault="dx averaged over the samples",
        kind="reduced",
        target="x",
        backward=_with(dx=lambda g, x, w: ((g @ w).mean(0).expand_as(x),)),
    ),
)
