"""Linear maps of two tensors: matrix products, and convolutions with the geometry inferred from shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, product
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import (
    HALF_STEP,
    LONGEST_DILATION,
    LONGEST_STRIDE,
    MOST_GEOMETRIES,
    SPECIFIC,
)
from nn_from_scratch.verify.diagnosis.families.operation import Fault, Forward, Operation
from nn_from_scratch.verify.diagnosis.problem import Problem

Geometry: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Stride, padding and dilation, one entry for each spatial axis."""


def contraction(problem: Problem) -> Iterator[Operation]:
    """Every product of two of the tensors, with a third as bias, whose output has the cotangent's shape."""
    context, g = problem.context, problem.context.only_cotangent
    if g is None or problem.complex or context.name is None:
        return
    names = [name for name, t in context.tensors.items() if t.dtype.is_floating_point]
    for a, b in ((a, b) for a in names for b in names if a != b):
        bias = next((c for c in names if c not in (a, b) and context.tensors[c].dim() == 1), None)
        if context.name == bias or context.name in (a, b):
            yield from _products(a, b, bias)
            yield from _convolutions(problem, a, b, bias)


def _products(a: str, b: str, bias: str | None) -> Iterator[Operation]:
    yield Operation("a linear map x·Wᵀ", lambda v, g: F.linear(v[a], v[b], None if bias is None else v[bias]))
    if bias is not None:
        yield Operation("a matrix product with bias", lambda v, g: v[a] @ v[b] + v[bias])
    yield Operation("a matrix product", lambda v, g: v[a] @ v[b])


def _convolutions(problem: Problem, x: str, w: str, bias: str | None) -> Iterator[Operation]:
    context, g = problem.context, problem.context.only_cotangent
    a, b = context.tensors[x], context.tensors[w]
    dims = a.dim() - 2
    if g is None or dims not in (1, 2, 3) or b.dim() != a.dim() or g.dim() != a.dim() or g.shape[0] != a.shape[0]:
        return
    if b.shape[0] == g.shape[1] and b.shape[1] and a.shape[1] % b.shape[1] == 0:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
        groups = a.shape[1] // b.shape[1]
        rules = {
            (s, p, d): _applied(convolve, x, w, bias, s, p, d, groups)
            for s, p, d in _geometries(problem, a.shape[2:], b.shape[2:], g.shape[2:])
        }
        yield from _alternatives("a convolution", rules)
    if b.shape[0] == a.shape[1] and b.shape[1] and g.shape[1] % b.shape[1] == 0:
        transpose = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
        groups = g.shape[1] // b.shape[1]
        rules = {}
        for s, p, d in _geometries(problem, g.shape[2:], b.shape[2:], a.shape[2:]):
            # What is left of the output beyond the last window.
            extra = tuple(
                wide - ((n - 1) * s[i] - 2 * p[i] + d[i] * (k - 1) + 1)
                for i, (wide, n, k) in enumerate(zip(g.shape[2:], a.shape[2:], b.shape[2:], strict=True))
            )
            if all(0 <= e < max(s[i], d[i]) for i, e in enumerate(extra)):
                rules[s, p, d] = _applied(transpose, x, w, bias, s, p, extra, groups, d)
        yield from _alternatives("a transposed convolution", rules)


def _applied(function: Callable[..., Tensor], x: str, w: str, bias: str | None, *geometry: object) -> Forward:
    return lambda v, g: function(v[x], v[w], None if bias is None else v[bias], *geometry)


def _alternatives(label: str, rules: dict[Geometry, Forward]) -> Iterator[Operation]:
    """Each geometry as the right one, with the others that give the same output size as faults."""
    for geometry, rule in rules.items():
        faults = tuple(
            Fault("wrong-geometry", f"has {_compared(other, geometry)}", wrong, SPECIFIC + HALF_STEP)
            for other, wrong in rules.items()
            if other != geometry
        )
        yield Operation(label, rule, faults)


def _compared(wrong: Geometry, right: Geometry) -> str:
    words = zip(("stride", "padding", "dilation"), wrong, right, strict=True)
    return " and ".join(f"{word} {w} where it should be {r}" for word, w, r in words if w != r)


def _geometries(problem: Problem, wide: torch.Size, kernel: torch.Size, narrow: torch.Size) -> Iterator[Geometry]:
    """Stride, padding and dilation from the wide to the narrow side; what is stated is not guessed."""
    context = problem.context
    axes = [
        [
            (s, p, d)
            for d in (range(1, LONGEST_DILATION + 1) if context.dilation is None else (context.dilation[i],))
            for s in (range(1, LONGEST_STRIDE + 1) if context.stride is None else (context.stride[i],))
            for p in (range(d * (k - 1) // 2 + 2) if context.padding is None else (context.padding[i],))
            if (h + 2 * p - d * (k - 1) - 1) >= 0 and (h + 2 * p - d * (k - 1) - 1) // s + 1 == n
        ]
        for i, (h, k, n) in enumerate(zip(wide, kernel, narrow, strict=True))
    ]
    # The same geometry along every axis first: it is the usual one.
    choices = sorted(product(*axes), key=lambda c: (len(set(c)), max(d for _, _, d in c), c))
    for choice in islice(choices, MOST_GEOMETRIES):
        stride, padding, dilation = zip(*choice, strict=True)
        yield stride, padding, dilation
