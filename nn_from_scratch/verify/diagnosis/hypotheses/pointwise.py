"""Each entry is a function of the same entry of the true gradient, or of it and its place along an axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.explanation import Explanation
from nn_from_scratch.verify.diagnosis.problem import Estimate, Problem, plain

__all__ = ["clipped", "distorted", "factor_of_tensor", "offset", "scaled_along_axis"]

_DISTORTIONS: tuple[tuple[str, Callable[[Tensor], Tensor], str], ...] = (
    ("absolute-value", torch.abs, "is the absolute value of the true one"),
    ("absolute-value", lambda n: -n.abs(), "is minus the absolute value of the true one"),
    ("squared", torch.square, "is the square of the true one, entry by entry"),
    ("sign-only", torch.sign, "keeps only the sign of the true one, entry by entry"),
    ("reciprocal", torch.reciprocal, "is the reciprocal of the true one, entry by entry"),
    ("rounded", torch.round, "is the true one rounded to whole numbers"),
)

_FEWEST_EACH_SIDE = 3
_NARROW = 0.6


def distorted(problem: Problem) -> Iterator[Explanation]:
    """A nonlinear function of each entry: its absolute value, its square, its sign."""
    if not problem.same_shape or not problem.finite:
        return
    truth = problem.truth
    for kind, function, claim in _DISTORTIONS:
        value = function(truth.value)
        around = [(function(truth.value + step) - value).abs() for step in (truth.allowed, -truth.allowed)]
        spread = torch.maximum(*around).maximum(truth.allowed if kind == "absolute-value" else around[0])
        if value.isfinite().all() and spread.isfinite().all():
            allowed = spread + 1e-12 * value.abs()
            yield Explanation(kind, "distorted", claim, 3, Estimate(value, allowed), scalable=False)


def clipped(problem: Problem) -> Iterator[Explanation]:
    """Right inside a band, and cut off at the band's end or set to zero on one side of it."""
    if not problem.same_shape or not problem.finite or not problem.telling.any():
        return
    analytic, truth = problem.analytic, problem.truth
    size, kept = truth.value.abs(), problem.telling
    for bound, word in ((0.0, "negative"), (None, "positive")):
        value = truth.value.clamp(min=bound) if bound is not None else truth.value.clamp(max=0.0)
        claim = f"is zero where the true one is {word}, and right elsewhere"
        yield Explanation("clipped", "clipped", claim, 3, Estimate(value, truth.allowed))
    highest, lowest = float(analytic.max()), float(analytic.min())
    both = max(highest, -lowest)
    for low, high, claim in (
        (-both, both, f"is clipped to at most {both:.6g} in magnitude"),
        (None, highest, f"is clipped to at most {highest:.6g}"),
        (lowest, None, f"is clipped to at least {lowest:.6g}"),
    ):
        if (high or 0) == 0 and (low or 0) == 0:
            continue
        value = truth.value.clamp(min=low, max=high)
        if int((value != truth.value).sum()) >= 2:
            # If all that is cut off has one sign, both bands fit; the one about zero is the usual clipping.
            steps = 4.0 if low is not None and high is not None else 4.1
            yield Explanation("clipped", "clipped", claim, steps, Estimate(value, truth.allowed), fitted=1)
    gone = problem.wrong
    if not (analytic[gone] == 0).all() or min(int(gone.sum()), int(kept.sum())) < _FEWEST_EACH_SIDE:
        return
    for word, under, over in (
        ("below", size[gone].max(), size[kept].min()),
        ("above", size[kept].max(), size[gone].min()),
    ):
        # A wide gap speaks for two populations, not for a threshold.
        if _NARROW * over <= under < over:
            edge = float(over if word == "below" else under)
            yield Explanation(
                "thresholded",
                "clipped",
                f"is zero where the true one is {word} {edge:.3g} in magnitude, and right elsewhere",
                4,
                Estimate(torch.where(gone, 0.0, truth.value), truth.allowed),
                fitted=1,
                scalable=False,
            )


def offset(problem: Problem) -> Iterator[Explanation]:
    """The true one plus a constant, or plus a value for each place along one axis."""
    if not problem.same_shape or not problem.finite or problem.numeric.numel() < 4:
        return
    difference, dims = problem.analytic - problem.numeric, problem.numeric.dim()
    weight = 1 / problem.truth.allowed.clamp(min=1e-300)
    choices: list[tuple[tuple[int, ...], str]] = [(tuple(range(dims)), "a constant")]
    if dims >= 2:
        choices += [((axis,), f"a value that is constant along {problem.axis(axis)}") for axis in range(dims)]
        choices += [
            (tuple(a for a in range(dims) if a != axis), f"a value for each place along {problem.axis(axis)}")
            for axis in range(dims)
            if dims > 2
        ]
    for step, (over, words) in enumerate(choices):
        shift = (weight * difference).sum(over, keepdim=True) / weight.sum(over, keepdim=True)
        shift = shift.expand_as(difference)
        constant = float(shift.flatten()[0]) if step == 0 else None
        yield Explanation(
            "offset",
            "offset",
            f"is the true one plus {words if constant is None else f'the constant {constant:.6g}'}",
            4 if step == 0 else 5,
            Estimate(problem.numeric + shift, 2 * problem.truth.allowed),
            fitted=shift.numel() // max(1, _product(difference, over)),
            scalable=False,
        )


def factor_of_tensor(problem: Problem) -> Iterator[Explanation]:
    """The true one times a known tensor of its shape, or divided by it."""
    tensors = {f"{name!r}": tensor for name, tensor in problem.context.tensors.items()}
    tensors |= {f"{name!r}, the output,": tensor for name, tensor in problem.context.outputs.items()}
    for label, tensor in tensors.items():
        if not problem.same_shape or tensor.shape != problem.numeric.shape or tensor.is_complex():
            continue
        values = plain(tensor)
        for claim, factor in (
            (f"has a factor {label} too many", values),
            (f"lacks a factor {label}", values.reciprocal()),
        ):
            if factor.isfinite().all():
                prediction = Estimate(factor * problem.numeric, factor.abs() * problem.truth.allowed)
                yield Explanation("factor-of-tensor", "factor", claim, 3.2, prediction)


def scaled_along_axis(problem: Problem) -> Iterator[Explanation]:
    """A factor for each place along one axis; if the factors are a known tensor, it is named."""
    if not problem.same_shape or not problem.finite or problem.numeric.dim() < 2:
        return
    numeric, analytic, dims = problem.numeric, problem.analytic, problem.numeric.dim()
    weight = 1 / problem.truth.allowed.square().clamp(min=1e-300)
    for axis in range(dims):
        if numeric.shape[axis] < 2:
            continue
        over = tuple(a for a in range(dims) if a != axis)
        power = (weight * numeric * numeric).sum(over, keepdim=True)
        factors = (weight * analytic * numeric).sum(over, keepdim=True) / power.clamp(min=1e-300)
        spread = factors.abs().clamp(min=1.0) * problem.truth.allowed * 2
        name = _tensor_named(problem, factors.flatten())
        cause = "" if name is None else f": the factors are {name}"
        yield Explanation(
            "factor-along-axis",
            "factor",
            f"is off by a factor that depends only on the place along {problem.axis(axis)}{cause}",
            5 if name is None else 4,
            Estimate(factors * numeric, spread),
            fitted=factors.numel() if name is None else 1,
            scalable=False,
            details={"axis": axis, "factors": tuple(factors.flatten().tolist()), "tensor": name},
        )


def _tensor_named(problem: Problem, factors: Tensor) -> str | None:
    """The tensor, or its inverse, that these factors are."""
    for name, tensor in problem.context.tensors.items():
        if tensor.numel() != factors.numel() or not tensor.dtype.is_floating_point:
            continue
        values = plain(tensor).flatten()
        if torch.allclose(factors, values, rtol=1e-5, atol=0):
            return f"those of {name!r}"
        if torch.allclose(factors * values, torch.ones_like(values), rtol=1e-5, atol=0):
            return f"the inverse of {name!r}, as if {name!r} had been left out"
    return None


def _product(tensor: Tensor, axes: tuple[int, ...]) -> int:
    count = 1
    for axis in axes:
        count *= tensor.shape[axis]
    return count
