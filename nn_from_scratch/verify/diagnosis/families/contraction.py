"""Linear maps of two tensors: matrix products, and convolutions with the geometry inferred from shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice, product
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
from nn_from_scratch.verify.diagnosis.families.operation import Fault, Forward, Operation, with_gradient
from nn_from_scratch.verify.diagnosis.families.windows import Windows
from nn_from_scratch.verify.diagnosis.problem import Problem

Sizes: TypeAlias = tuple[int, ...]
"""One entry for each spatial axis."""

Geometry: TypeAlias = tuple[Sizes, Sizes, Sizes]
"""Stride, padding and dilation."""

_PARTS = ("stride", "padding", "dilation")


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
        convolution = _Convolution((F.conv1d, F.conv2d, F.conv3d)[dims - 1], x, w, bias, a.shape[1] // b.shape[1])
        rules = {
            (s, p, d): convolution.forward(s, p, d)
            for s, p, d in _geometries(problem, a.shape[2:], b.shape[2:], g.shape[2:])
        }
        yield from _alternatives(problem, "a convolution", convolution, rules)
    if b.shape[0] == a.shape[1] and b.shape[1] and g.shape[1] % b.shape[1] == 0:
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
        convolution = _Convolution(function, x, w, bias, g.shape[1] // b.shape[1], transposed=True)
        rules = {}
        for s, p, d in _geometries(problem, g.shape[2:], b.shape[2:], a.shape[2:]):
            # What is left of the output beyond the last window.
            extra = tuple(
                wide - ((n - 1) * s[i] - 2 * p[i] + d[i] * (k - 1) + 1)
                for i, (wide, n, k) in enumerate(zip(g.shape[2:], a.shape[2:], b.shape[2:], strict=True))
            )
            if all(0 <= e < max(s[i], d[i]) for i, e in enumerate(extra)):
                rules[s, p, d] = convolution.forward(s, p, d, extra)
        yield from _alternatives(problem, "a transposed convolution", convolution, rules)


@dataclass(frozen=True)
class _Convolution:
    """A convolution, transposed or not, of two tensors and perhaps a bias, by their names."""

    function: Callable[..., Tensor]
    x: str
    w: str
    bias: str | None
    groups: int
    transposed: bool = False

    def forward(self, s: Sizes, p: Sizes, d: Sizes, extra: Sizes | None = None) -> Forward:
        """With this geometry; a transposed one also with so many entries beyond the last window."""
        return lambda v, g: self._of(v, v[self.x], s, p, d, extra)

    def cut(self, s: Sizes, p: Sizes, d: Sizes) -> Forward:
        """With this geometry, whatever sizes that gives: what is too large is cut off, what is too small ends in zeros.

        So a backward brings its result to the right shape whose sums run over the wrong windows.
        """

        def forward(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
            if self.transposed:
                whole = self._of(v, v[self.x], s, (0,) * len(p), d)
                return _on_canvas(whole, tuple(-before for before in p), tuple(g.shape[2:]))
            sizes = zip(s, d, g.shape[2:], v[self.w].shape[2:], strict=True)
            canvas = _on_canvas(v[self.x], p, tuple((n - 1) * step + far * (k - 1) + 1 for step, far, n, k in sizes))
            return self._of(v, canvas, s, (0,) * len(p), d)

        return forward

    def overwritten(self, s: Sizes, p: Sizes, d: Sizes) -> Forward:
        """With windows that overwrite each other where they overlap, those that come later in memory order."""

        def forward(v: Mapping[str, Tensor], g: Tensor) -> Tensor:
            x, w = v[self.x], v[self.w]
            windows = Windows(tuple(x.shape), tuple(w.shape[2:]), s, p)
            shares = torch.einsum("ock,nop->nckp", w.flatten(2), g.flatten(2))
            return with_gradient(x, windows.last(shares), g)

        return forward

    def channels_exchanged(self, s: Sizes, p: Sizes, d: Sizes) -> Forward:
        """With input and output channels of the kernel exchanged."""
        straight = self.cut(s, p, d)
        return lambda v, g: straight({**v, self.w: v[self.w].transpose(0, 1)}, g)

    def _of(
        self, v: Mapping[str, Tensor], x: Tensor, s: Sizes, p: Sizes, d: Sizes, extra: Sizes | None = None
    ) -> Tensor:
        bias = None if self.bias is None else v[self.bias]
        if self.transposed:
            return self.function(x, v[self.w], bias, s, p, (0,) * len(p) if extra is None else extra, self.groups, d)
        return self.function(x, v[self.w], bias, s, p, d, self.groups)


def _on_canvas(x: Tensor, before: Sizes, size: Sizes) -> Tensor:
    """The spatial axes of x on a canvas of zeros, its first entry at `before`; what lies outside is cut off."""
    pads = [(b, wide - b - n) for b, wide, n in zip(before, size, x.shape[2:], strict=True)]
    return F.pad(x, [amount for pair in reversed(pads) for amount in pair])


def _alternatives(
    problem: Problem, label: str, convolution: _Convolution, rules: dict[Geometry, Forward]
) -> Iterator[Operation]:
    """Each geometry as the right one; as faults the others with the same output size, and what may be forgotten."""
    for geometry, rule in rules.items():
        faults = [
            Fault("wrong-geometry", f"has {_compared(other, geometry)}", wrong, SPECIFIC + HALF_STEP)
            for other, wrong in rules.items()
            if other != geometry
        ]
        for forgotten, other in _forgotten(geometry):
            claim = f"forgets {forgotten}, and sums over other windows"
            faults.append(Fault("wrong-geometry", claim, convolution.cut(*other), SPECIFIC))
        if problem.context.name == convolution.x and convolution.groups == 1:
            claim = (
                f"uses {convolution.w!r} with its first two axes exchanged, the input and output channels: a kernel "
                "that is turned round needs its channels exchanged too"
            )
            exchanged = convolution.channels_exchanged(*geometry)
            faults.append(Fault("operand-transposed", claim, exchanged, SPECIFIC + HALF_STEP))
            if not convolution.transposed and len(geometry[0]) < 3 and set(geometry[2]) == {1}:
                claim = "keeps only the last of the overlapping windows where it should add them up"
                faults.append(Fault("overlap-overwritten", claim, convolution.overwritten(*geometry)))
        yield Operation(label, rule, tuple(faults))


def _forgotten(geometry: Geometry) -> Iterator[tuple[str, Geometry]]:
    """One or two of stride, padding and dilation left at what they are by default, with words for them."""
    neutral = [(value,) * len(geometry[0]) for value in (1, 0, 1)]
    used = [i for i in range(len(neutral)) if geometry[i] != neutral[i]]
    for count in (1, 2):
        for chosen in combinations(used, count):
            words = " and ".join(f"the {_PARTS[i]} of {geometry[i]}" for i in chosen)
            stride, padding, dilation = (neutral[i] if i in chosen else geometry[i] for i in range(len(neutral)))
            yield words, (stride, padding, dilation)


def _compared(wrong: Geometry, right: Geometry) -> str:
    words = zip(_PARTS, wrong, right, strict=True)
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
