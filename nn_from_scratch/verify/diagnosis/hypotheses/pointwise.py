"""Each entry is a function of the same entry of the true gradient, or of it and its place along an axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import (
    COMPOUND,
    FACTOR_ERROR,
    FEWEST_EACH_SIDE,
    FITTED,
    NARROW_GAP,
    ROUNDING,
    SPECIFIC,
    TIE_BREAK,
    TINY,
)
from nn_from_scratch.verify.diagnosis.explanation import Explanation, hypothesis
from nn_from_scratch.verify.diagnosis.problem import Problem, UncertainTensor, plain

_DISTORTIONS: tuple[tuple[str, Callable[[Tensor], Tensor], str], ...] = (
    ("absolute-value", torch.abs, "is the absolute value of the true one"),
    ("absolute-value", lambda n: -n.abs(), "is minus the absolute value of the true one"),
    ("squared", torch.square, "is the square of the true one, entry by entry"),
    ("sign-only", torch.sign, "keeps only the sign of the true one, entry by entry"),
    ("reciprocal", torch.reciprocal, "is the reciprocal of the true one, entry by entry"),
    ("rounded", torch.round, "is the true one rounded to whole numbers"),
)


@hypothesis("distorted", simplest=SPECIFIC, scalable=False)
def distorted(problem: Problem) -> Iterator[Explanation]:
    """A nonlinear function of each entry: its absolute value, its square, its sign."""
    truth = problem.truth
    for kind, function, claim in _DISTORTIONS:
        value = function(truth.value)
        up, down = ((function(truth.value + step) - value).abs() for step in (truth.allowed, -truth.allowed))
        spread = up.maximum(down)
        if kind == "absolute-value":
            spread = spread.maximum(truth.allowed)
        if value.isfinite().all() and spread.isfinite().all():
            yield Explanation(kind, claim, SPECIFIC, UncertainTensor(value, spread + ROUNDING * value.abs()))


@hypothesis("clipped", simplest=SPECIFIC)
def clipped(problem: Problem) -> Iterator[Explanation]:
    """Right inside a band, and cut off at its ends."""
    if not problem.telling.any():
        return
    truth, highest, lowest = problem.truth, float(problem.analytic.max()), float(problem.analytic.min())
    both = max(highest, -lowest)
    # If all that is cut off has one sign, both bands fit; the one about zero is the usual clipping.
    for low, high, claim, level, fitted in (
        (0.0, None, "is zero where the true one is negative, and right elsewhere", SPECIFIC, 0),
        (None, 0.0, "is zero where the true one is positive, and right elsewhere", SPECIFIC, 0),
        (-both, both, f"is clipped to at most {both:.6g} in magnitude", COMPOUND, 1),
        (None, highest, f"is clipped to at most {highest:.6g}", COMPOUND + TIE_BREAK, 1),
        (lowest, None, f"is clipped to at least {lowest:.6g}", COMPOUND + TIE_BREAK, 1),
    ):
        value = truth.value.clamp(min=low, max=high)
        if not fitted or ((high or low) and int((value != truth.value).sum()) >= 2):
            yield Explanation("clipped", claim, level, UncertainTensor(value, truth.allowed), fitted=fitted)


@hypothesis("clipped", simplest=COMPOUND, scalable=False)
def thresholded(problem: Problem) -> Iterator[Explanation]:
    """Right on one side of a magnitude, and zero on the other."""
    truth, gone, kept = problem.truth, problem.wrong, problem.telling
    if not (problem.analytic[gone] == 0).all() or min(int(gone.sum()), int(kept.sum())) < FEWEST_EACH_SIDE:
        return
    cut, left = truth.value.abs()[gone], truth.value.abs()[kept]
    for word, under, over, edge in (
        ("below", cut.max(), left.min(), left.min()),
        ("above", left.max(), cut.min(), left.max()),
    ):
        if NARROW_GAP * over <= under < over:
            claim = f"is zero where the true one is {word} {float(edge):.3g} in magnitude, and right elsewhere"
            prediction = UncertainTensor(torch.where(gone, 0.0, truth.value), truth.allowed)
            yield Explanation("thresholded", claim, COMPOUND, prediction, fitted=1)


@hypothesis("offset", simplest=COMPOUND, scalable=False)
def offset(problem: Problem) -> Iterator[Explanation]:
    """The true one plus a constant, or plus a value for each place along one axis."""
    difference, dims = problem.analytic - problem.numeric, problem.numeric.dim()
    weight = 1 / problem.truth.allowed.clamp(min=TINY)
    every = tuple(range(dims))
    choices: list[tuple[tuple[int, ...], str, float]] = [(every, "", COMPOUND)]
    if dims >= 2:
        choices += [((a,), f"a value that is constant along {problem.axis(a)}", FITTED) for a in every]
    if dims > 2:
        others = [(a, tuple(b for b in every if b != a)) for a in every]
        choices += [(over, f"a value for each place along {problem.axis(a)}", FITTED) for a, over in others]
    for over, words, level in choices:
        shift = (weight * difference).sum(over, keepdim=True) / weight.sum(over, keepdim=True)
        claim = f"is the true one plus {words or f'the constant {float(shift):.6g}'}"
        prediction = UncertainTensor(problem.numeric + shift, 2 * problem.truth.allowed)
        yield Explanation("offset", claim, level, prediction, fitted=shift.numel())


@hypothesis("factor", simplest=SPECIFIC)
def factor_of_tensor(problem: Problem) -> Iterator[Explanation]:
    """The true one times a known tensor of its shape, or divided by it."""
    tensors = {f"{name!r}": tensor for name, tensor in problem.context.tensors.items()}
    tensors |= {f"{name!r} (the output)": tensor for name, tensor in problem.context.outputs.items()}
    for label, tensor in tensors.items():
        if tensor.shape != problem.numeric.shape or tensor.is_complex():
            continue
        values = plain(tensor)
        for claim, factor in (
            (f"has a factor {label} too many", values),
            (f"lacks a factor {label}", values.reciprocal()),
        ):
            if factor.isfinite().all():
                prediction = UncertainTensor(factor * problem.numeric, factor.abs() * problem.truth.allowed)
                yield Explanation("factor-of-tensor", claim, SPECIFIC + 2 * TIE_BREAK, prediction)


@hypothesis("factor", simplest=COMPOUND, scalable=False)
def scaled_along_axis(problem: Problem) -> Iterator[Explanation]:
    """A factor for each place along one axis; if the factors are a known tensor, it is named."""
    if problem.numeric.dim() < 2:
        return
    numeric, analytic, dims = problem.numeric, problem.analytic, problem.numeric.dim()
    weight = 1 / problem.truth.allowed.square().clamp(min=TINY)
    for axis in range(dims):
        if numeric.shape[axis] < 2:
            continue
        over = tuple(a for a in range(dims) if a != axis)
        power = (weight * numeric * numeric).sum(over, keepdim=True)
        factors = (weight * analytic * numeric).sum(over, keepdim=True) / power.clamp(min=TINY)
        spread = factors.abs().clamp(min=1.0) * problem.truth.allowed * 2
        tensor = _tensor_named(problem, factors.flatten())
        cause = "" if tensor is None else f": the factors are {tensor}"
        yield Explanation(
            "factor-along-axis",
            f"is off by a factor that depends only on the place along {problem.axis(axis)}{cause}",
            FITTED if tensor is None else COMPOUND,
            UncertainTensor(factors * numeric, spread),
            fitted=factors.numel() if tensor is None else 1,
            details={"axis": axis, "factors": tuple(factors.flatten().tolist()), "tensor": tensor},
        )


def _tensor_named(problem: Problem, factors: Tensor) -> str | None:
    """The tensor, or its inverse, that these factors are."""
    for name, tensor in problem.context.tensors.items():
        if tensor.numel() != factors.numel() or not tensor.dtype.is_floating_point:
            continue
        values = plain(tensor).flatten()
        if torch.allclose(factors, values, rtol=FACTOR_ERROR, atol=0):
            return f"those of {name!r}"
        if torch.allclose(factors * values, torch.ones_like(values), rtol=FACTOR_ERROR, atol=0):
            return f"the inverse of {name!r}, as if {name!r} had been left out"
    return None
