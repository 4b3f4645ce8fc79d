"""Functions of one entry, whose derivatives are taken for each other's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import (
    EPSILONS,
    HALF_STEP,
    LEAKY_SLOPES,
    SIGMOID_GELU,
    SPECIFIC,
    TIE_BREAK,
)
from nn_from_scratch.verify.diagnosis.families.operation import Fault, Forward, Operation
from nn_from_scratch.verify.diagnosis.problem import Problem

Function = Callable[[Tensor], Tensor]

FUNCTIONS: Mapping[str, Function] = {
    "ReLU": F.relu,
    **{f"leaky ReLU with slope {slope}": partial(F.leaky_relu, negative_slope=slope) for slope in LEAKY_SLOPES},
    "ReLU6": F.relu6,
    "ELU": F.elu,
    "SELU": F.selu,
    "erf-GELU": F.gelu,
    "tanh-GELU": partial(F.gelu, approximate="tanh"),
    "the sigmoid approximation of GELU": lambda x: x * torch.sigmoid(SIGMOID_GELU * x),
    "SiLU": F.silu,
    "sigmoid": torch.sigmoid,
    "hard sigmoid": F.hardsigmoid,
    "log-sigmoid": F.logsigmoid,
    "tanh": torch.tanh,
    "hard tanh": F.hardtanh,
    "hard swish": F.hardswish,
    "Mish": F.mish,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "exp": torch.exp,
    "log": torch.log,
    "log to base 2": torch.log2,
    "log to base 10": torch.log10,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "the inverse square root": torch.rsqrt,
    "the square": torch.square,
    "the cube": lambda x: x**3,
    "the reciprocal": torch.reciprocal,
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "arctan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "erf": torch.erf,
}

_WITH_EPSILON: Mapping[str, Callable[..., Tensor]] = {
    "the square root with ε = {:g} inside": lambda x, e: torch.sqrt(x + e),
    "the square root with ε = {:g} outside": lambda x, e: torch.sqrt(x) + e,
    "the inverse square root with ε = {:g} inside": lambda x, e: torch.rsqrt(x + e),
    "the inverse of a square root with ε = {:g} outside": lambda x, e: 1 / (torch.sqrt(x) + e),
    "the logarithm with ε = {:g} inside": lambda x, e: torch.log(x + e),
    "the reciprocal with ε = {:g} added": lambda x, e: 1 / (x + e),
}

_PRODUCTS = (F.silu, F.gelu, F.mish, FUNCTIONS["tanh-GELU"])
"""Functions that are x·s(x) for a sigmoid-like s."""

_MISREMEMBERED: Mapping[str, Function] = {
    "1 - y": lambda y: 1 - y,
    "1 + y": lambda y: 1 + y,
    "y(1 - y)": lambda y: y * (1 - y),
    "1 - y²": lambda y: 1 - y * y,
    "1/y": torch.reciprocal,
}

_OUTPUT_FORMS: Mapping[Function, Function] = {
    torch.sigmoid: lambda y: y * (1 - y),
    torch.tanh: lambda y: 1 - y * y,
    torch.exp: lambda y: y,
    torch.sqrt: lambda y: 0.5 / y,
    torch.reciprocal: lambda y: -y * y,
    torch.rsqrt: lambda y: -0.5 * y**3,
    F.softplus: lambda y: 1 - torch.exp(-y),
}
"""The derivative in terms of the output."""


def elementwise(problem: Problem) -> Iterator[Operation]:
    """Every function of one entry that could be the subject, each with the others' derivatives as faults."""
    if problem.unary is None or problem.unary[1].shape != problem.unary[2].shape:
        return
    name = problem.unary[0]
    functions = {**FUNCTIONS, **_parametrized(problem)}
    # A function with a constant to choose ranks behind one without; ReLU6 is a ReLU wherever no entry exceeds 6.
    ranks = {label: 0.0 if label in FUNCTIONS else 2 * TIE_BREAK for label in functions} | {"ReLU6": TIE_BREAK}
    forwards = {label: _of(name, function) for label, function in functions.items()}
    for label, function in functions.items():
        others = tuple(
            Fault("neighbor", f"is that of {other}, while the forward is {label}", forward, SPECIFIC + ranks[other])
            for other, forward in forwards.items()
            if other != label
        )
        yield Operation(label, forwards[label], (*_shared_faults(name, function), *others), rank=ranks[label])


def _shared_faults(name: str, f: Function) -> Iterator[Fault]:
    """The faults that any function's backward can have."""

    def at(point: Callable[[Tensor, Tensor], Tensor]) -> Forward:
        return lambda v, g: v[name] * _derivative(f, point(v[name], g))

    claim = "evaluates the derivative at the output, where it should be evaluated at the input"
    yield Fault("derivative-at-output", claim, at(lambda x, g: f(x)))
    claim = "takes the derivative at -x, where it should be taken at x: a mask or a comparison is inverted"
    yield Fault("mask-inverted", claim, at(lambda x, g: -x))
    claim = "takes the derivative, or the mask, from the cotangent, where it should be taken from the input"
    yield Fault("mask-from-cotangent", claim, at(lambda x, g: g))
    claim = "takes the derivative at |x|, where it should be taken at x"
    yield Fault("derivative-of-magnitude", claim, at(lambda x, g: x.abs()))
    claim = "multiplies the cotangent by the value f(x), where it should be the derivative"
    yield Fault("value-for-derivative", claim, _times(name, f))
    for label, form in _MISREMEMBERED.items():
        claim = f"multiplies the cotangent by {label}, which is not the derivative"
        yield Fault("wrong-derivative", claim, _times(name, lambda x, form=form: form(f(x))), SPECIFIC + HALF_STEP)  # type: ignore[misc]
    if f in _PRODUCTS:
        for term, slope in (("x·s'(x)", lambda x: f(x) / x), ("s(x)", lambda x: _derivative(f, x) - f(x) / x)):
            claim = f"lacks the term {term} of the derivative of x·s(x)"
            yield Fault("product-term-missing", claim, _times(name, slope), SPECIFIC - TIE_BREAK)
    if f in _OUTPUT_FORMS:
        claim = "takes x for y in the derivative's form in terms of the output y"
        yield Fault("output-form-at-input", claim, _times(name, _OUTPUT_FORMS[f]))


def _of(name: str, f: Function) -> Forward:
    return lambda v, g: f(v[name])


def _times(name: str, slope: Function) -> Forward:
    """A surrogate with this derivative."""
    return lambda v, g: v[name] * slope(v[name].detach())


def _derivative(f: Function, at: Tensor) -> Tensor:
    leaf = at.detach().clone().requires_grad_()
    return torch.autograd.grad(f(leaf).sum(), leaf)[0]


def _parametrized(problem: Problem) -> dict[str, Function]:
    """The functions with an ε or a slope, for the usual values and those of the context."""
    constants = tuple(abs(value) for value in problem.context.constants.values() if value and math.isfinite(value))
    table: dict[str, Function] = {}
    for epsilon in dict.fromkeys((*constants, *EPSILONS)):
        for label, function in _WITH_EPSILON.items():
            table[label.format(epsilon)] = partial(function, e=epsilon)
    for name, value in problem.context.constants.items():
        table[f"leaky ReLU with {name} = {value:g}"] = partial(F.leaky_relu, negative_slope=value)
        table[f"ELU with {name} = {value:g}"] = partial(F.elu, alpha=value)
    return table
