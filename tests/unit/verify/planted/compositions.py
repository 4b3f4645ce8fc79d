"""Layers that are composed of several functions, with one wrong derivative among right ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.verify.planted.fault import Backward, PlantedFault

_Shapes = tuple[tuple[int, ...], ...]


def _gradients(forward: Callable[..., Tensor], g: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    leaves = tuple(value.detach().clone().requires_grad_() for value in inputs)
    with torch.enable_grad():
        return torch.autograd.grad(forward(*leaves), leaves, g, materialize_grads=True)


def _of(forward: Callable[..., Tensor]) -> Callable[[int], Callable[..., Tensor]]:
    """The gradients of another forward: one with a `detach`, or with a function of the same value."""
    return lambda place: lambda g, *inputs: _gradients(forward, g, *inputs)[place]


def _fused(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch.relu(x @ w + b)


def _cell(x: Tensor, h: Tensor, v: Tensor, w: Tensor) -> Tensor:
    return torch.tanh(x @ v + h @ w)


def _cell_by_input(g: Tensor, x: Tensor, h: Tensor, v: Tensor, w: Tensor) -> Tensor:
    z = x @ v + h @ w
    dh: Tensor = (g * (1 - z * z)) @ w.T
    return dh


def _attention(x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    scores = (x @ wq) @ (x @ wk).transpose(-1, -2)
    return scores.softmax(-1) @ (x @ wv)


def _diagonal(g: Tensor, x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    weights = ((x @ wq) @ (x @ wk).transpose(-1, -2)).softmax(-1)
    inner = weights * (1 - weights) * (g @ (x @ wv).transpose(-1, -2))
    dwq: Tensor = torch.einsum("nti,ntj->ij", x, inner @ (x @ wk))
    return dwq


def _constant_weights(x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    scores = (x @ wq) @ (x @ wk).transpose(-1, -2)
    return scores.softmax(-1).detach() @ (x @ wv)


def _gate(x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    z = torch.sigmoid(x @ w)
    return z * h + (1 - z) * torch.tanh(h)


def _gate_without_path(x: Tensor, h: Tensor, w: Tensor) -> Tensor:
    z = torch.sigmoid(x @ w)
    return z * h.detach() + (1 - z) * torch.tanh(h)


def _prelu(x: Tensor, a: Tensor) -> Tensor:
    return torch.where(x > 0, x, a * x)


def _swiglu(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
    return F.silu(x @ w) * (x @ v)


def _heads(x: Tensor, v: Tensor) -> Tensor:
    return (x @ v).reshape(*x.shape[:2], 2, -1).transpose(1, 2)  # (N, H, T, D)


def _merged(x: Tensor, v: Tensor, w: Tensor) -> Tensor:
    return torch.tanh(_heads(x, v)).transpose(1, 2).reshape(*x.shape[:2], -1) @ w


def _unmerged(g: Tensor, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
    return torch.tanh(_heads(x, v)).reshape(-1, len(w)).T @ g.flatten(0, 1)


_ANGLES = torch.linspace(0.3, 2.0, 6, dtype=torch.float64)


def _rotated(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat(
        [first * _ANGLES.cos() - second * _ANGLES.sin(), first * _ANGLES.sin() + second * _ANGLES.cos()], -1
    )


_OF_CELL: _Shapes = ((3, 4), (3, 5), (4, 5), (5, 5))
_OF_ATTENTION: _Shapes = ((2, 3, 4), (4, 4), (4, 4), (4, 4))


def _planted(
    layer: str,
    fault: str,
    kind: str,
    target: str,
    names: str,
    shapes: _Shapes,
    forward: Callable[..., Tensor],
    wrong: Callable[..., Tensor],
    **options: Any,
) -> PlantedFault:
    listed = tuple(names.split())
    place = listed.index(target)

    def backward(g: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        gradients = list(_gradients(forward, g, *inputs))
        gradients[place] = wrong(g, *inputs)
        return tuple(gradients)

    right: Backward = backward
    return PlantedFault(layer, fault, kind, target, forward, right, listed, shapes, **options)


COMPOSITIONS = (
    _planted(
        "self_attention",
        "diagonal of softmax's Jacobian alone",
        "jacobian-diagonal",
        "wq",
        "x wq wk wv",
        _OF_ATTENTION,
        _attention,
        _diagonal,
        mentions="in softmax(",
    ),
    _planted(
        "linear_relu",
        "mask forgotten in dW",
        "derivative-missing",
        "w",
        "x w b",
        ((5, 4), (4, 3), (3,)),
        _fused,
        lambda g, x, w, b: x.T @ g,
        mentions="relu(add(matmul(x, w), b))",
    ),
    _planted(
        "linear_relu",
        "mask forgotten in db",
        "derivative-missing",
        "b",
        "x w b",
        ((5, 4), (4, 3), (3,)),
        _fused,
        lambda g, x, w, b: g.sum(0),
    ),
    _planted(
        "rnn_cell",
        "tanh' forgotten in dh",
        "derivative-missing",
        "h",
        "x h v w",
        _OF_CELL,
        _cell,
        lambda g, x, h, v, w: g @ w.T,
        mentions="tanh(",
    ),
    _planted("rnn_cell", "1 - z² for 1 - y²", "output-form-at-input", "h", "x h v w", _OF_CELL, _cell, _cell_by_input),
    _planted(
        "rnn_cell",
        "dw with the new state",
        "operand-mistaken",
        "w",
        "x h v w",
        _OF_CELL,
        _cell,
        lambda g, x, h, v, w: _cell(x, h, v, w).T @ (g * (1 - _cell(x, h, v, w) ** 2)),
        mentions="where it should use h in the derivative of matmul(h, w)",
    ),
    _planted(
        "rnn_cell",
        "w not transposed in dh",
        "operand-transposed",
        "h",
        "x h v w",
        _OF_CELL,
        _cell,
        lambda g, x, h, v, w: (g * (1 - _cell(x, h, v, w) ** 2)) @ w,
    ),
    _planted(
        "self_attention",
        "weights taken for constants in dx",
        "path-missing",
        "x",
        "x wq wk wv",
        _OF_ATTENTION,
        _attention,
        _of(_constant_weights)(0),
        mentions="softmax(matmul(…))",
    ),
    _planted(
        "gate",
        "direct path missing in dh",
        "path-missing",
        "h",
        "x h w",
        ((3, 4), (3, 5), (4, 5)),
        _gate,
        _of(_gate_without_path)(1),
        mentions="comes through h in mul(",
    ),
    _planted(
        "linear_relu",
        "mask from the cotangent in dx",
        "mask-from-cotangent",
        "x",
        "x w b",
        ((8, 4), (4, 6), (6,)),
        _fused,
        lambda g, x, w, b: (g * (g > 0)) @ w.T,
        mentions="of relu(",
    ),
    _planted(
        "prelu",
        "mask inverted in da",
        "mask-inverted",
        "a",
        "x a",
        ((5, 4), (1,)),
        _prelu,
        lambda g, x, a: (g * x * (x > 0)).sum().reshape(1),
    ),
    _planted(
        "prelu",
        "factor x missing in da",
        "derivative-missing",
        "a",
        "x a",
        ((5, 4), (1,)),
        _prelu,
        lambda g, x, a: (g * (x <= 0)).sum().reshape(1),
    ),
    _planted(
        "swiglu",
        "sigmoid for silu'",
        "product-term-missing",
        "w",
        "x w v",
        ((5, 4), (4, 3), (4, 3)),
        _swiglu,
        lambda g, x, w, v: x.T @ (g * (x @ v) * torch.sigmoid(x @ w)),
        mentions="silu(matmul(x, w))",
    ),
    _planted(
        "scaled relu6",
        "not cut off above",
        "neighbor",
        "x",
        "x",
        ((6, 7),),
        lambda x: F.relu6(4 * x),
        lambda g, x: 4 * g * (x > 0),
        mentions="ReLU in place of that of relu6",
        also=("where-condition",),
    ),
    _planted(
        "heads", "not merged in dw", "operand-reshaped", "w", "x v w", ((2, 3, 4), (4, 4), (4, 3)), _merged, _unmerged
    ),
    _planted(
        "rotation", "not turned back", "forward-applied", "x", "x", ((3, 12),), _rotated, lambda g, x: _rotated(g)
    ),
    _planted(
        "softplus",
        "β forgotten",
        "option-forgotten",
        "x",
        "x",
        ((5, 6),),
        lambda x: F.softplus(x, beta=2.0),
        lambda g, x: g * torch.sigmoid(x),
        mentions="forgets beta=2.0 of softplus(x)",
    ),
    _planted(
        "concatenation",
        "halves exchanged",
        "cotangent-rolled",
        "a",
        "a b",
        ((4, 3), (4, 3)),
        lambda a, b: torch.cat([a, 2 * b], 1),
        lambda g, a, b: g[:, 3:],
    ),
    _planted(
        "flatten",
        "in another order",
        "reshaped",
        "x",
        "x",
        ((2, 3, 4),),
        lambda x: x.flatten(1),
        lambda g, x: g.T.reshape(4, 3, 2).permute(2, 1, 0),
        mentions="Fortran order",
    ),
    _planted(
        "tempered softmax",
        "temperature forgotten",
        "call-left-out",
        "x",
        "x",
        ((4, 5),),
        lambda x: (x / 3).softmax(1),
        lambda g, x: _gradients(lambda x: x.softmax(1), g, x)[0],
        mentions="without div(x)",
    ),
    _planted(
        "matmul",
        "w not transposed in dx",
        "operand-transposed",
        "x",
        "x w",
        ((5, 4), (4, 4)),
        lambda x, w: x @ w,
        lambda g, x, w: g @ w,
    ),
)
