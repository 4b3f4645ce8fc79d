"""Layer, batch, instance, group and RMS norm, for the gradients of x, the weight and the bias.

With μ and σ² over the statistics' axes, x̂ = (x - μ)/σ and y = γ x̂ + β, the gradient is
dx = (γg - mean(γg) - x̂ mean(γg x̂))/σ (Ioffe and Szegedy 2015, and Ba, Kiros and Hinton 2016). Its second
term comes through μ and its third through σ; a surrogate that holds one of them constant drops that term.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import LARGEST_NORM_EPSILON, NORM_EPSILONS
from nn_from_scratch.verify.diagnosis.families.operation import Fault, Forward, Operation, scale_gradient, with_gradient
from nn_from_scratch.verify.diagnosis.problem import Problem

Axes = tuple[int, ...]


@dataclass(frozen=True)
class _Norm:
    """One normalization; the fields after `bias` are what its backward may get wrong."""

    x: str
    axes: Axes
    groups: int | None
    centered: bool
    epsilon: float
    weight: str | None
    bias: str | None
    through_mean: float = 1.0
    through_deviation: float = 1.0
    outer: float = 0.0
    unbiased: bool = False
    epsilon_outside: bool = False
    factor_of_weight: str = "normalized"
    weight_axes: Axes | None = None

    def __call__(self, values: Mapping[str, Tensor], g: Tensor) -> Tensor:
        x, shape = values[self.x], values[self.x].shape
        if self.groups is not None:
            x = x.reshape(shape[0], self.groups, -1)  # (N, groups, entries of a group)
        if self.factor_of_weight == "outside" and self.weight is not None:
            x = scale_gradient(x, self.spread(values[self.weight], shape).detach())
        if self.outer:
            x = scale_gradient(x, self.statistics(x)[1].detach() ** self.outer)
        mean, deviation = self.statistics(x)
        normalized = (x - scale_gradient(mean, self.through_mean)) / scale_gradient(deviation, self.through_deviation)
        return self._affine(values, normalized, x, shape)

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation, kept as axes of size one."""
        mean = x.mean(self.axes, keepdim=True) if self.centered else torch.zeros_like(x)
        count = math.prod(x.shape[axis] for axis in self.axes)
        variance = (x - mean).square().sum(self.axes, keepdim=True) / (count - self.unbiased)
        return mean, variance.sqrt() + self.epsilon if self.epsilon_outside else (variance + self.epsilon).sqrt()

    def _affine(self, values: Mapping[str, Tensor], normalized: Tensor, x: Tensor, shape: torch.Size) -> Tensor:
        y = normalized.reshape(shape)
        if self.weight is not None:
            weight = self.spread(values[self.weight], shape)
            if self.factor_of_weight == "x":
                y = x.reshape(shape)
            elif self.factor_of_weight == "centered":
                y = (x - x.mean(self.axes, keepdim=True)).reshape(shape)
            elif self.factor_of_weight == "output":
                y = (y * weight).detach()
            elif self.factor_of_weight == "whole output" and self.bias is not None:
                y = (y * weight + self.spread(values[self.bias], shape)).detach()
            y = y if self.factor_of_weight in ("none", "outside") else y * weight
        if self.bias is not None:
            y = y + self.spread(values[self.bias], shape)
        return y

    def spread(self, weight: Tensor, shape: torch.Size) -> Tensor:
        """A weight for the last axes of a layer norm, or for the channels of the others."""
        axes = self.axes if self.weight_axes is None else self.weight_axes
        last = tuple(range(len(shape) - len(axes), len(shape)))
        if self.groups is None and axes == last and tuple(weight.shape) == tuple(shape[last[0] :]):
            return weight
        return weight.reshape(-1, *[1] * (len(shape) - 2))


def normalization(problem: Problem) -> Iterator[Operation]:
    """The norms that fit the shapes, for each set of axes and each usual ε."""
    context, g = problem.context, problem.context.only_cotangent
    if g is None or g.dim() < 2 or problem.complex or context.name is None:
        return
    floating = {name: t for name, t in context.tensors.items() if t.dtype.is_floating_point}
    x = next((name for name, t in floating.items() if t.shape == g.shape), None)
    if x is None or context.name not in floating:
        return
    epsilons = dict.fromkeys(
        (*(abs(c) for c in context.constants.values() if abs(c) < LARGEST_NORM_EPSILON), *NORM_EPSILONS)
    )
    for label, axes, groups, centered in _norms(g.shape):
        size = math.prod(g.shape[axis] for axis in axes) if groups is None else 0
        if size == 1:
            continue
        others = [name for name, t in floating.items() if name != x and t.numel() in (g.shape[1], size)]
        weight = others[0] if others else None
        bias = others[1] if len(others) > 1 else None
        for epsilon in epsilons:
            norm = _Norm(x, axes, groups, centered, epsilon, weight, bias)
            yield Operation(label, norm, tuple(_faults(norm, g.shape, of_x=context.name == x)))


def _norms(shape: torch.Size) -> Iterator[tuple[str, Axes, int | None, bool]]:
    dims = len(shape)
    yield "a batch norm", tuple(axis for axis in range(dims) if axis != 1), None, True
    for count in range(1, dims):
        axes = tuple(range(dims - count, dims))
        last = "axis" if count == 1 else f"{count} axes"
        yield f"a layer norm over the last {last}", axes, None, True
        yield f"an RMS norm over the last {last}", axes, None, False
    if dims >= 3:
        for groups in range(1, shape[1]):
            if shape[1] % groups == 0:
                yield f"a group norm of {groups} groups", (2,), groups, True


_EITHER_WAY: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "unbiased-variance",
        "uses the unbiased variance (n - 1), while the forward uses the biased one (n)",
        {"unbiased": True},
    ),
    (
        "epsilon-outside",
        "adds ε outside of the square root, while the forward adds it inside",
        {"epsilon_outside": True},
    ),
    ("epsilon-missing", "leaves ε out", {"epsilon": 0.0}),
)
_THROUGH_MEAN: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "statistics-constant",
        "takes the mean and the deviation for constants",
        {"through_mean": 0.0, "through_deviation": 0.0},
    ),
    ("mean-term-missing", "lacks the term that comes through the mean, -mean(γg)/σ", {"through_mean": 0.0}),
    ("mean-term-sign", "has the wrong sign in the term that comes through the mean", {"through_mean": -1.0}),
)
_OF_X: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "deviation-term-missing",
        "lacks the term that comes through the deviation, -x̂·mean(γg·x̂)/σ",
        {"through_deviation": 0.0},
    ),
    (
        "deviation-term-sign",
        "has the wrong sign in the term that comes through the deviation",
        {"through_deviation": -1.0},
    ),
    ("deviation-missing", "lacks the factor 1/σ", {"outer": 1.0}),
    ("deviation-squared", "is divided by σ², where it should be divided by σ", {"outer": -1.0}),
    *_EITHER_WAY,
)
_OF_WEIGHTED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("weight-missing", "lacks the factor {weight!r}", {"factor_of_weight": "none"}),
    (
        "weight-outside",
        "is multiplied by {weight!r} at the end, where the cotangent should be, before the means",
        {"factor_of_weight": "outside"},
    ),
)
_OF_WEIGHT: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("not-normalized", "uses x where it should use the normalized x̂", {"factor_of_weight": "x"}),
    ("deviation-missing", "lacks the factor 1/σ in the normalized x̂", {"factor_of_weight": "centered"}),
    ("output-for-normalized", "uses γ·x̂ where it should use the normalized x̂", {"factor_of_weight": "output"}),
    (
        "output-for-normalized",
        "uses the output where it should use the normalized x̂",
        {"factor_of_weight": "whole output"},
    ),
    *_EITHER_WAY,
)


def _faults(norm: _Norm, shape: torch.Size, *, of_x: bool) -> Iterator[Fault]:
    table = _OF_WEIGHT
    if of_x:
        table = (*(_THROUGH_MEAN if norm.centered else ()), *_OF_X, *(_OF_WEIGHTED if norm.weight else ()))
    for kind, claim, changes in table:
        yield Fault(kind, claim.format(weight=norm.weight), replace(norm, **changes))
    # The statistics, or the terms of the gradient alone, of another norm.
    for count in range(1, shape[1] + 1) if norm.groups is not None else ():
        if shape[1] % count == 0 and count != norm.groups:
            claim = f"takes the means over {count} groups of channels, where there are {norm.groups}"
            yield Fault("wrong-axis", claim, replace(norm, groups=count))
    for label, axes, groups, centered in _norms(shape):
        if groups is None and norm.groups is None and centered == norm.centered and axes != norm.axes:
            wrong = replace(norm, axes=axes, weight_axes=norm.axes)
            yield Fault("wrong-axis", f"takes the means over the axes {axes}, as {label} does", wrong)
            if of_x:
                claim = f"takes the means of its terms over the axes {axes}, where they should run over {norm.axes}"
                yield Fault("wrong-axis", claim, _with_terms_over(norm, axes))


def _with_terms_over(norm: _Norm, axes: Axes) -> Forward:
    """A surrogate with the right statistics, whose gradient takes its means over other axes."""

    def forward(values: Mapping[str, Tensor], g: Tensor) -> Tensor:
        x = values[norm.x]
        mean, deviation = norm.statistics(x)
        normalized = (x - mean) / deviation
        d = g if norm.weight is None else g * norm.spread(values[norm.weight], x.shape)
        terms = normalized * (d * normalized).mean(axes, keepdim=True)
        terms = terms + d.mean(axes, keepdim=True) if norm.centered else terms
        return with_gradient(x, (d - terms) / deviation, g)

    return forward
