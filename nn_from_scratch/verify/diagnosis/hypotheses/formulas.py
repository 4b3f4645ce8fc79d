"""A factor of the derivative's formula that is missing or too many, perhaps on one side of zero; a term added."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import COMPOUND, FITTED, HALF_STEP, SPECIFIC, TIE_BREAK, TINY
from nn_from_scratch.verify.diagnosis.explanation import Explanation, hypothesis
from nn_from_scratch.verify.diagnosis.problem import Problem, UncertainTensor, plain

_FACTORS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "{}": lambda t: t,
    "exp({})": torch.exp,
    "{}²": torch.square,
    "(1 - {})": lambda t: 1 - t,
    "(1 + {})": lambda t: 1 + t,
    "(1 - {}²)": lambda t: 1 - t * t,
    "(1 + {}²)": lambda t: 1 + t * t,
}
"""Factors that derivatives have, as a function of the input or of the output."""


@hypothesis("factor", simplest=COMPOUND)
def factor_of_formula(problem: Problem) -> Iterator[Explanation]:
    """The true one times, or divided by, a function of the input or the output, everywhere or on one side of zero."""
    truth = problem.truth
    for (name, values), (form, function) in ((t, f) for t in _entrywise(problem) for f in _FACTORS.items()):
        factor = function(values)
        for words, by in ((f"has the factor {form} too many", factor), (f"lacks the factor {form}", 1 / factor)):
            if not by.isfinite().all():
                continue
            claim = words.format(name)
            prediction = UncertainTensor(by * truth.value, by.abs() * truth.allowed)
            if form != "{}":  # the tensor itself everywhere is a hypothesis of its own
                yield Explanation("factor-of-formula", claim, COMPOUND, prediction)
            for side, region in _sides(problem):
                there = truth.where(region, prediction)
                claim_there = f"{claim} where {side}, and is right elsewhere"
                yield Explanation("factor-of-formula", claim_there, COMPOUND + HALF_STEP, there)


@hypothesis("terms", simplest=SPECIFIC + HALF_STEP, scalable=False)
def tensor_added(problem: Problem) -> Iterator[Explanation]:
    """The true one plus a known tensor, or a multiple of it: a penalty, or a term that belongs to the forward."""
    difference, truth = problem.analytic - problem.numeric, problem.truth
    for label, values in _same_shape(problem):
        # The cotangent as it is counts as a skip connection, which has a name of its own.
        regions = [*((f" where {side}", region) for side, region in _sides(problem))]
        if label != "the cotangent":
            regions.insert(0, ("", torch.ones_like(problem.wrong)))
        for where, region in regions:
            multiple = _multiple(difference, values, truth.allowed, region)
            if multiple is None:
                continue
            size, fitted = f"{abs(multiple):.6g} times ", 1
            if abs(multiple) == 1:
                size, fitted = "", 0
            claim = f"is the true one {'plus' if multiple > 0 else 'minus'} {size}{label}{where}"
            level = SPECIFIC + (2 * HALF_STEP if fitted else HALF_STEP) + (TIE_BREAK if where else 0.0)
            value = truth.value + torch.where(region, multiple * values, 0.0)
            prediction = UncertainTensor(value, 2 * truth.allowed)
            details = {"tensor": label, "multiple": multiple}
            yield Explanation("term-added", claim, level, prediction, fitted=fitted, details=details)


@hypothesis("terms", simplest=FITTED, scalable=False)
def term_for_each_place(problem: Problem) -> Iterator[Explanation]:
    """The true one plus a multiple of a known tensor for each place along some axes: a term of a norm's gradient."""
    dims = problem.numeric.dim()
    if dims < 2:
        return
    difference, weight = problem.analytic - problem.numeric, 1 / problem.truth.allowed.square().clamp(min=TINY)
    rows = tuple(range(dims - 1))
    kept = dict.fromkeys([*((axis,) for axis in range(dims)), rows])
    for label, values in _same_shape(problem):
        for axes in kept:
            over = tuple(axis for axis in range(dims) if axis not in axes)
            # Where some of the places are right, the fault is a region, or an index.
            if not problem.wrong.sum(over).bool().all():
                continue
            power = (weight * values * values).sum(over, keepdim=True)
            multiple = (weight * difference * values).sum(over, keepdim=True) / power.clamp(min=TINY)
            where = " and ".join(problem.axis(axis) for axis in axes)
            claim = (
                f"is the true one plus a multiple of {label} for each place along {where}: a term is missing or wrong"
            )
            prediction = UncertainTensor(problem.numeric + multiple * values, 2 * problem.truth.allowed)
            details = {"tensor": label, "axes": axes}
            level = FITTED + HALF_STEP
            yield Explanation("term-along-axis", claim, level, prediction, fitted=multiple.numel(), details=details)


def _multiple(difference: Tensor, values: Tensor, allowed: Tensor, region: Tensor) -> float | None:
    """The least-squares multiple of a tensor inside a region; 1 and -1 wherever it may be one of them."""
    weight = torch.where(region, 1 / allowed.square().clamp(min=TINY), 0.0)
    power = float((weight * values * values).sum())
    if not power > 0:
        return None
    best = float((weight * difference * values).sum()) / power
    for plain_one in (1.0, -1.0):
        if bool(((difference - plain_one * values).abs() <= 2 * allowed)[region].all()):
            return plain_one
    return best if best else None


def _entrywise(problem: Problem) -> Iterator[tuple[str, Tensor]]:
    """The input and the output by name, where each of them has an entry for every entry of the gradient."""
    context = problem.context
    tensors = {name: context.tensors[name] for name in (context.name,) if name is not None and name in context.tensors}
    for name, tensor in {**tensors, **context.outputs}.items():
        if tensor.shape == problem.numeric.shape and tensor.is_floating_point():
            yield name, plain(tensor)


def _same_shape(problem: Problem) -> Iterator[tuple[str, Tensor]]:
    tensors = {f"{name!r}": tensor for name, tensor in problem.context.tensors.items()}
    tensors |= {f"{name!r} (the output)": tensor for name, tensor in problem.context.outputs.items()}
    if problem.cotangent is not None:
        tensors["the cotangent"] = problem.cotangent
    for label, tensor in tensors.items():
        if tensor.shape == problem.numeric.shape and tensor.is_floating_point():
            yield label, plain(tensor)


def _sides(problem: Problem) -> Iterator[tuple[str, Tensor]]:
    """Where the input has one sign; what a function that is defined by cases tells apart."""
    name = problem.context.name
    tensor = None if name is None else problem.context.tensors.get(name)
    if tensor is not None and tensor.shape == problem.numeric.shape and tensor.is_floating_point():
        values = plain(tensor)
        for words, region in ((f"{name} > 0", values > 0), (f"{name} < 0", values < 0)):
            if region.any() and not region.all():
                yield words, region
