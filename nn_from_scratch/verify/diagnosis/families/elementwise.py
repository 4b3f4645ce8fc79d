"""Functions of one entry, whose derivatives are taken for each other's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify.diagnosis.families.operation import Family, Fault
from nn_from_scratch.verify.diagnosis.problem import Problem

__all__ = ["FUNCTIONS", "elementwise"]

Function = Callable[[Tensor], Tensor]

_EPSILONS = (1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)

FUNCTIONS: Mapping[str, Function] = {
    "ReLU": F.relu,
    "leaky ReLU with slope 0.01": partial(F.leaky_relu, negative_slope=0.01),
    "leaky ReLU with slope 0.1": partial(F.leaky_relu, negative_slope=0.1),
    "leaky ReLU with slope 0.2": partial(F.leaky_relu, negative_slope=0.2),
    "ReLU6": F.relu6,
    "ELU": F.elu,
    "SELU": F.selu,
    "erf-GELU": F.gelu,
    "tanh-GELU": partial(F.gelu, approximate="tanh"),
    "the sigmoid approximation of GELU": lambda x: x * torch.sigmoid(1.702 * x),
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

_WITH_EPSILON: Mapping[str, Callable[[Tensor, float], Tensor]] = {
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

_OUTPUT_FORMS: tuple[tuple[Function, Function], ...] = (
    (torch.sigmoid, lambda y: y * (1 - y)),
    (torch.tanh, lambda y: 1 - y * y),
    (torch.exp, lambda y: y),
    (torch.sqrt, lambda y: 0.5 / y),
    (torch.reciprocal, lambda y: -y * y),
    (torch.rsqrt, lambda y: -0.5 * y**3),
    (F.softplus, lambda y: 1 - torch.exp(-y)),
)


def elementwise(problem: Problem) -> Iterator[Family]:
    """Every function of one entry that could be the subject, each with the others' derivatives as faults."""
    name, g = problem.context.name, problem.context.only_cotangent
    if name is None or name not in problem.context.tensors or g is None or problem.complex:
        return
    if problem.context.tensors[name].shape != g.shape or not problem.same_shape:
        return
    table = {
        **dict.fromkeys(FUNCTIONS, 0.0),
        "ReLU6": 0.1,
        **dict.fromkeys(parametrised := _parametrised(problem), 0.2),
    }
    functions = {**FUNCTIONS, **parametrised}
    for label, function in functions.items():
        neighbours = tuple(
            Fault(
                "neighbour",
                f"is that of {other}, while the forward is {label}",
                partial(_apply, name, functions[other]),
                3.0 + table[other],
            )
            for other in functions
            if other != label
        )
        yield Family(
            label,
            partial(_apply, name, function),
            (*_shared_faults(name, function), *neighbours),
            rank=table[label],
        )


def _shared_faults(name: str, f: Function) -> tuple[Fault, ...]:
    """The faults that any function's backward can have."""
    faults = [
        Fault(
            "derivative-at-output",
            "evaluates the derivative at the output, where it should be evaluated at the input",
            lambda v, g: v[name] * _derivative(f, f(v[name])),
        ),
        Fault(
            "mask-inverted",
            "takes the derivative at -x, where it should be taken at x: a mask or a comparison is inverted",
            lambda v, g: v[name] * _derivative(f, -v[name]),
        ),
        Fault(
            "mask-from-cotangent",
            "takes the derivative, or the mask, from the cotangent, where it should be taken from the input",
            lambda v, g: v[name] * _derivative(f, g),
        ),
        Fault(
            "value-for-derivative",
            "multiplies the cotangent by the value f(x), where it should be the derivative",
            lambda v, g: v[name] * f(v[name]).detach(),
        ),
        Fault(
            "derivative-of-magnitude",
            "takes the derivative at |x|, where it should be taken at x",
            lambda v, g: v[name] * _derivative(f, v[name].abs()),
        ),
    ]
    for label, form in _MISREMEMBERED.items():
        faults.append(
            Fault(
                "wrong-derivative",
                f"multiplies the cotangent by {label}, which is not the derivative",
                partial(_by_output, name, f, form),
                3.5,
            )
        )
    if f in _PRODUCTS:
        faults += [
            Fault(
                "product-term-missing",
                "lacks the term x·s'(x) of the derivative of x·s(x)",
                lambda v, g: v[name] * (f(v[name]) / v[name]).detach(),
                2.9,
            ),
            Fault(
                "product-term-missing",
                "lacks the term s(x) of the derivative of x·s(x)",
                lambda v, g: v[name] * (_derivative(f, v[name]) - (f(v[name]) / v[name]).detach()),
                2.9,
            ),
        ]
    for function, form in _OUTPUT_FORMS:
        if f is function:
            faults.append(
                Fault(
                    "output-form-at-input",
                    "takes x for y in the derivative's form in terms of the output y",
                    partial(_by_form, name, form),
                )
            )
    return tuple(faults)


def _apply(name: str, f: Function, values: Mapping[str, Tensor], g: Tensor) -> Tensor:
    return f(values[name])


def _by_form(name: str, form: Function, values: Mapping[str, Tensor], g: Tensor) -> Tensor:
    return values[name] * form(values[name].detach())


def _by_output(name: str, f: Function, form: Function, values: Mapping[str, Tensor], g: Tensor) -> Tensor:
    return values[name] * form(f(values[name]).detach())


def _with_epsilon(f: Callable[[Tensor, float], Tensor], epsilon: float, x: Tensor) -> Tensor:
    return f(x, epsilon)


def _derivative(f: Function, at: Tensor) -> Tensor:
    leaf = at.detach().clone().requires_grad_()
    return torch.autograd.grad(f(leaf).sum(), leaf)[0]


def _parametrised(problem: Problem) -> dict[str, Function]:
    """The functions with an ε or a slope, for the usual values and those of the context."""
    constants = tuple(abs(value) for value in problem.context.constants.values() if value and math.isfinite(value))
    table: dict[str, Function] = {}
    for epsilon in dict.fromkeys((*constants, *_EPSILONS)):
        for label, function in _WITH_EPSILON.items():
            table[label.format(epsilon)] = partial(_with_epsilon, function, epsilon)
    for name, value in problem.context.constants.items():
        table[f"leaky ReLU with {name} = {value:g}"] = partial(F.leaky_relu, negative_slope=value)
        table[f"ELU with {name} = {value:g}"] = partial(F.elu, alpha=value)
    return table
