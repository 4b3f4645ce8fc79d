"""Functions of one entry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.unit.verify.planted.fault import PlantedFault, of_one_input

Formula = Callable[[Tensor, Tensor], Tensor]


def _positive(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 0.01 + torch.rand(shape, generator=generator, dtype=torch.float64)


def _entrywise(
    layer: str, fault: str, kind: str, forward: Callable[[Tensor], Tensor], dx: Formula, **options: Any
) -> PlantedFault:
    return of_one_input(layer, fault, kind, forward, dx, (6, 7), **options)


def _tanh_gelu(g: Tensor, x: Tensor) -> Tensor:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    t = torch.tanh(inner)
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)


def _sigmoid_gelu(g: Tensor, x: Tensor) -> Tensor:
    s = torch.sigmoid(1.702 * x)
    return g * (s + 1.702 * x * s * (1 - s))


def _sigmoid_slope(at: Tensor) -> Tensor:
    s = torch.sigmoid(at)
    return s * (1 - s)


ACTIVATIONS = (
    _entrywise("gelu", "tanh-GELU's derivative", "neighbor", F.gelu, _tanh_gelu, mentions="tanh-GELU"),
    _entrywise("gelu", "sigmoid approximation", "neighbor", F.gelu, _sigmoid_gelu, mentions="sigmoid approximation"),
    _entrywise(
        "sigmoid",
        "derivative at the output",
        "derivative-at-output",
        torch.sigmoid,
        lambda g, x: g * _sigmoid_slope(torch.sigmoid(x)),
        also=("operand-overwritten",),
    ),
    _entrywise("sigmoid", "x(1 - x)", "output-form-at-input", torch.sigmoid, lambda g, x: g * x * (1 - x)),
    _entrywise("tanh", "1 - x²", "output-form-at-input", torch.tanh, lambda g, x: g * (1 - x * x)),
    _entrywise("relu", "mask inverted", "mask-inverted", F.relu, lambda g, x: g * (x <= 0)),
    _entrywise("relu", "mask from the cotangent", "mask-from-cotangent", F.relu, lambda g, x: g * (g > 0)),
    _entrywise("relu", "mask forgotten", "cotangent-passed-on", F.relu, lambda g, x: g.clone()),
    _entrywise(
        "leaky_relu",
        "slope forgotten",
        "neighbor",
        F.leaky_relu,
        lambda g, x: g * (x > 0),
        mentions="ReLU",
        also=("where-condition",),
    ),
    _entrywise(
        "sqrt",
        "ε forgotten",
        "neighbor",
        lambda x: torch.sqrt(x + 1e-2),
        lambda g, x: g * 0.5 / torch.sqrt(x),
        mentions="that of sqrt",
        draw=_positive,
    ),
    _entrywise("relu", "mask alone, from the cotangent", "mask-from-cotangent", F.relu, lambda g, x: (g > 0).to(g)),
    _entrywise(
        "sigmoid", "derivative at the cotangent", "mask-from-cotangent", torch.sigmoid, lambda g, x: _sigmoid_slope(g)
    ),
    _entrywise(
        "elu",
        "exp forgotten",
        "factor-of-formula",
        lambda x: F.elu(x, 0.3),
        lambda g, x: g * torch.where(x > 0, torch.ones_like(x), 0.3),
        mentions="lacks the factor exp(x) where x < 0",
        also=("where-condition",),
    ),
    _entrywise(
        "elu of several functions",
        "exp forgotten",
        "derivative-missing",
        lambda x: torch.where(x > 0, x, 0.3 * torch.expm1(x)),
        lambda g, x: g * torch.where(x > 0, torch.ones_like(x), 0.3),
        mentions="lacks the derivative of expm1(x)",
        also=("factor-of-formula", "where-condition"),
    ),
    _entrywise(
        "elu",
        "1 added to the output, not its slope",
        "term-added",
        lambda x: torch.where(x > 0, x, 0.3 * torch.expm1(x)),
        lambda g, x: g * torch.where(x > 0, 1.0, 0.3 * torch.expm1(x) + 1),
        mentions="plus 0.7 times the cotangent where x < 0",
        also=("where-condition",),
    ),
    _entrywise("sin", "the input added", "term-added", torch.sin, lambda g, x: g * x.cos() + x, mentions="plus 'x'"),
    _entrywise(
        "clamp", "mask inverted", "mask-inverted", lambda x: x.clamp(-0.5, 0.5), lambda g, x: g * (x.abs() > 0.5)
    ),
    _entrywise("exp", "derivative x", "output-form-at-input", torch.exp, lambda g, x: g * x),
    _entrywise("log2", "ln 2 forgotten", "factor", torch.log2, lambda g, x: g / x, mentions="ln 2", draw=_positive),
    _entrywise("cumsum", "not reversed", "scan-direction", lambda x: x.cumsum(1), lambda g, x: g.cumsum(1)),
)
