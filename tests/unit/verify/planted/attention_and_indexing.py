"""Attention, embeddings, and functions that are constant piece by piece."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.verify.planted.fault import Backward, PlantedFault, of_one_input


def _gradients(forward: Callable[..., Tensor], g: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    leaves = tuple(value.detach().clone().requires_grad_() for value in inputs)
    with torch.enable_grad():
        return torch.autograd.grad(forward(*leaves), leaves, g)


def _with(forward: Callable[..., Tensor], place: int, wrong: Callable[..., Tensor]) -> Backward:
    """The right backward, but for one gradient."""

    def backward(g: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        gradients = list(_gradients(forward, g, *inputs))
        gradients[place] = wrong(g, *inputs)
        return tuple(gradients)

    return backward


def _plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _plain(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))


def _interleaved_sum(g: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    each: Tensor = _gradients(_plain, g, q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))[1]  # (N, 2·H, T, D)
    return each.reshape(len(k), 2, k.shape[1], *k.shape[2:]).sum(1)  # (N, H, T, D)


def _without_sum(g: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scale = q.shape[-1] ** -0.5
    weights = (scale * q @ k.transpose(-1, -2)).softmax(-1)
    dq: Tensor = scale * (weights * (g @ v.transpose(-1, -2))) @ k
    return dq


def _diagonal(g: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scale = q.shape[-1] ** -0.5
    weights = (scale * q @ k.transpose(-1, -2)).softmax(-1)
    dq: Tensor = scale * (weights * (1 - weights) * (g @ v.transpose(-1, -2))) @ k
    return dq


def _not_transposed(g: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights: Tensor = (q.shape[-1] ** -0.5 * q @ k.transpose(-1, -2)).softmax(-1)
    return weights @ g


def _planted(
    fault: str, kind: str, place: int, forward: Callable[..., Tensor], wrong: Callable[..., Tensor], heads: int = 2
) -> PlantedFault:
    shapes, names = ((2, heads, 4, 3), (2, 2, 4, 3), (2, 2, 4, 3)), ("q", "k", "v")
    backward = _with(forward, place, wrong)
    # The last query sees every key.
    return PlantedFault("attention", fault, kind, names[place], forward, backward, names, shapes, also=("edge",))


def _unmasked(place: int) -> Callable[..., Tensor]:
    return lambda g, q, k, v: _gradients(_plain, g, q, k, v)[place]


def _normalized(x: Tensor, v: Tensor) -> Tensor:
    y: Tensor = x @ (v / v.norm(dim=1, keepdim=True)).T
    return y


def _product(a: Tensor, b: Tensor) -> Tensor:
    return torch.sin(a * b)


def _square(x: Tensor, w: Tensor) -> Tensor:
    return x @ w


def _of_two(
    layer: str, fault: str, kind: str, place: int, forward: Callable[..., Tensor], wrong: Callable[..., Tensor]
) -> PlantedFault:
    shapes, names = ((5, 4), (4, 4) if layer == "matmul" else (5, 4)), ("x", "w")
    return PlantedFault(
        layer, fault, kind, names[place], forward, _with(forward, place, wrong), names, shapes, names[1:]
    )


ATTENTION_AND_INDEXING = (
    _planted("causal mask forgotten in dq", "mask-missing", 0, _causal, _unmasked(0)),
    _planted("causal mask forgotten in dv", "mask-missing", 2, _causal, _unmasked(2)),
    _planted("interleaved sum over heads", "heads-mixed", 1, _grouped, _interleaved_sum, heads=4),
    _planted("P not transposed in dv", "operand-transposed", 2, _plain, _not_transposed),
    _planted("diagonal of softmax's Jacobian alone", "jacobian-diagonal", 0, _plain, _diagonal),
    _planted("sum over the keys forgotten", "sum-term-missing", 0, _plain, _without_sum),
    _of_two(
        "weight_norm",
        "row term missing",
        "path-missing",
        1,
        _normalized,
        lambda g, x, v: g.T @ x / v.norm(dim=1, keepdim=True),
    ),
    _of_two(
        "product",
        "gradient of the other factor",
        "swapped-gradients",
        0,
        _product,
        lambda g, a, b: g * torch.cos(a * b) * a,
    ),
    _of_two("matmul", "symmetric part of dW", "symmetrized", 1, _square, lambda g, x, w: (x.T @ g + g.T @ x) / 2),
    _of_two("matmul", "lower triangle of dW", "triangle", 1, _square, lambda g, x, w: (x.T @ g).tril()),
    of_one_input("round", "identity", "straight-through", torch.round, lambda g, x: g.clone(), (5, 6)),
    of_one_input(
        "sign",
        "clipped identity",
        "straight-through",
        torch.sign,
        lambda g, x: g * (x.abs() <= 1),
        (5, 6),
        mentions="|x| is at most about 1",
    ),
    of_one_input(
        "sign",
        "scaled identity",
        "straight-through",
        torch.sign,
        lambda g, x: 0.3 * g,
        (5, 6),
        mentions="0.3 times",
    ),
)
