"""Linear layers, y = x·Wᵀ + b: dx = g·W, dW = gᵀ·x, db = Σ g over the samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.unit.verify.planted.fault import PlantedFault

_WIDE = ((6, 5), (4, 5), (4,))
_SQUARE = ((6, 5), (5, 5), (5,))
_AS_MANY_SAMPLES = ((4, 5), (4, 5), (4,))


def _forward(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return x @ w.T + b


def _planted(
    fault: str,
    kind: str,
    target: str,
    wrong: Callable[[Tensor, Tensor, Tensor], Tensor | None],
    *,
    shapes: tuple[tuple[int, ...], ...] = _WIDE,
    mentions: str = "",
    needs_pair: bool = False,
    also: tuple[str, ...] = (),
) -> PlantedFault:
    """The right backward with one of its gradients replaced by `wrong(g, x, w)`."""
    names = ("x", "weight", "bias")

    def backward(g: Tensor, x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
        right = {"x": g @ w, "weight": g.T @ x, "bias": g.sum(0)}
        return tuple(wrong(g, x, w) if name == target else right[name] for name in names)

    return PlantedFault(
        "linear", fault, kind, target, _forward, backward, names, shapes, names[1:], mentions, None, needs_pair, also
    )


def _overwriting(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    dw = torch.zeros_like(w)
    for sample in range(len(x)):
        dw = torch.outer(g[sample], x[sample])
    return dw


def _first_sample(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    dx = torch.zeros_like(x)
    dx[0] = g[0] @ w
    return dx


def _decayed(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    return g.T @ x + 0.25


def _zero(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    return torch.zeros(len(w), dtype=g.dtype)


LINEAR = (
    _planted("sign of dW", "sign", "weight", lambda g, x, w: -(g.T @ x)),
    _planted("dW divided by N", "factor", "weight", lambda g, x, w: g.T @ x / len(x), mentions="N, the batch size"),
    _planted("dW transposed", "transposed", "weight", lambda g, x, w: x.T @ g, shapes=_SQUARE),
    _planted(
        "dx with W transposed",
        "operand-transposed",
        "x",
        lambda g, x, w: g @ w.T,
        shapes=_SQUARE,
        mentions="'weight' transposed",
    ),
    _planted("db zero", "zero", "bias", _zero),
    _planted("db None", "forgotten", "bias", lambda g, x, w: None, also=("zero",)),
    _planted("db summed over the features", "wrong-axis", "bias", lambda g, x, w: g.sum(1), shapes=_AS_MANY_SAMPLES),
    _planted("db not summed", "broadcast-not-summed", "bias", lambda g, x, w: g, needs_pair=True),
    _planted("cotangent ignored in dx", "cotangent-ignored", "x", lambda g, x, w: torch.ones_like(g) @ w),
    _planted("dW of the last sample", "one-slice-only", "weight", _overwriting),
    _planted("dx of the first sample", "first-sample-only", "x", _first_sample),
    _planted("samples of dx in reverse", "flipped", "x", lambda g, x, w: g.flip(0) @ w, also=("reordered",)),
    _planted("|dW|", "absolute-value", "weight", lambda g, x, w: (g.T @ x).abs()),
    _planted("dW clipped", "clipped", "weight", lambda g, x, w: (g.T @ x).clamp(-1, 1)),
    _planted("weight decay's constant left in dW", "offset", "weight", _decayed),
    _planted(
        "weight decay left in dW",
        "term-added",
        "weight",
        lambda g, x, w: g.T @ x + 0.05 * w,
        mentions="plus 0.05 times 'weight'",
    ),
    _planted("dW reshaped, not transposed", "reshaped", "weight", lambda g, x, w: (x.T @ g).reshape(w.shape)),
    _planted("dx averaged over the samples", "reduced", "x", lambda g, x, w: (g @ w).mean(0).expand_as(x)),
)
