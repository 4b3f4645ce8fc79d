"""Products with an activation: a layer with its activation, a recurrent cell, two layers, a gate.

They have no faults of their own. Where a subject's forward cannot be run with autograd, as one on NumPy arrays, the
composition that it is recognized as is run in its place, with another derivative of one of its calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify.diagnosis.families.operation import Forward, Operation
from nn_from_scratch.verify.diagnosis.problem import Problem

_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "ReLU": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "SiLU": F.silu,
    "GELU": F.gelu,
    "leaky ReLU": F.leaky_relu,
}

_Product = Callable[[Mapping[str, Tensor]], Tensor]


def composition(problem: Problem) -> Iterator[Operation]:
    """Every composition of an activation and one or two products whose output has the cotangent's shape."""
    context, g = problem.context, problem.context.only_cotangent
    if g is None or problem.complex or context.name is None:
        return
    tensors = {name: t for name, t in context.tensors.items() if t.dtype.is_floating_point}
    matrices = [name for name, t in tensors.items() if t.dim() >= 2]
    biases: list[str | None] = [name for name, t in tensors.items() if t.dim() == 1]
    shape = tuple(g.shape)
    for label, act in _ACTIVATIONS.items():
        for (words, product, wide), bias in ((p, b) for p in _products(tensors, matrices) for b in (None, *biases)):
            if wide == shape:
                yield Operation(f"{label} of {words}", _activated(act, (product,), bias))
        yield from _cells(label, act, tensors, matrices, biases, shape)
        yield from _networks(label, act, tensors, matrices, biases, shape)
        for a, b in permutations(tensors, 2):
            if tuple(tensors[a].shape) == tuple(tensors[b].shape) == shape:
                yield Operation(f"{a} times {label} of {b}", _gated(act, a, b))


def _products(tensors: Mapping[str, Tensor], names: list[str]) -> Iterator[tuple[str, _Product, tuple[int, ...]]]:
    """x·W and x·Wᵀ for any two tensors that fit, with their shapes."""
    for x, w in permutations(names, 2):
        a, b = tensors[x], tensors[w]
        if b.dim() == 2 and a.shape[-1] == b.shape[0]:
            yield f"{x}·{w}", lambda v, x=x, w=w: v[x] @ v[w], (*a.shape[:-1], b.shape[1])  # type: ignore[misc]
        if b.dim() == 2 and a.shape[-1] == b.shape[1]:
            yield f"{x}·{w}ᵀ", lambda v, x=x, w=w: v[x] @ v[w].T, (*a.shape[:-1], b.shape[0])  # type: ignore[misc]


def _cells(
    label: str,
    act: Callable[[Tensor], Tensor],
    tensors: Mapping[str, Tensor],
    matrices: list[str],
    biases: list[str | None],
    shape: tuple[int, ...],
) -> Iterator[Operation]:
    """Two products, of different tensors, added up before the activation."""
    fitting = [(words, product) for words, product, wide in _products(tensors, matrices) if wide == shape]
    for i, (first, one) in enumerate(fitting):
        for second, other in fitting[i + 1 :]:
            if {*first.rstrip("ᵀ").split("·")}.isdisjoint(second.rstrip("ᵀ").split("·")):
                for bias in (None, *biases):
                    yield Operation(f"{label} of {first} + {second}", _activated(act, (one, other), bias))


def _networks(
    label: str,
    act: Callable[[Tensor], Tensor],
    tensors: Mapping[str, Tensor],
    matrices: list[str],
    biases: list[str | None],
    shape: tuple[int, ...],
) -> Iterator[Operation]:
    """Two layers with an activation between them."""
    for words, product, wide in _products(tensors, matrices):
        for last in matrices:
            w = tensors[last]
            if last in words or w.dim() != 2:
                continue
            for turned in (False, True):
                if (*wide[:-1], w.shape[0 if turned else 1]) == shape and wide[-1] == w.shape[1 if turned else 0]:
                    for first, second in ((None, None), *permutations(biases, 2)):
                        hidden = _activated(act, (product,), first)
                        yield Operation(f"two layers with {label}", _layered(hidden, last, second, turned=turned))


def _activated(act: Callable[[Tensor], Tensor], products: tuple[_Product, ...], bias: str | None) -> Forward:
    def forward(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        total = products[0](v)
        for product in products[1:]:
            total = total + product(v)
        return act(total if bias is None else total + v[bias])

    return forward


def _layered(hidden: Forward, last: str, bias: str | None, *, turned: bool) -> Forward:
    def forward(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
        y = hidden(v, g) @ (v[last].T if turned else v[last])
        return y if bias is None else y + v[bias]

    return forward


def _gated(act: Callable[[Tensor], Tensor], a: str, b: str) -> Forward:
    return lambda v, g: v[a] * act(v[b])
