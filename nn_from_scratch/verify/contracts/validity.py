"""Whether an input that nobody gave is shown to be valid, so that a wrong gradient there says something."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import is_finite, largest_entry
from nn_from_scratch.verify.derivative.linearization import (
    LinearizationPoint,
    flatten,
    magnitude,
    point_at,
    working_values,
)
from nn_from_scratch.verify.derivative.probes import directional
from nn_from_scratch.verify.guarded import unguarded
from nn_from_scratch.verify.protocol import Subject, starting_values
from nn_from_scratch.verify.subjects.autograd import AutogradRun
from nn_from_scratch.verify.subjects.structure import name_outputs


def is_smooth_and_wrong(moved: Subject, name: str, context: CheckContext, *, usual: float) -> bool:
    """Whether a gradient is plainly wrong at a point at which the forward is plainly smooth.

    The forward is evidence of its own derivative there if plain slopes along one direction, with two steps and at
    points close by, are all the same: at degenerate points (equal eigenvalues, the origin of `atan2`, a pole, an
    epsilon that decides) they are not. The gradient is wrong if it is not finite, or off by more than a small share of
    that slope and of the usual one, and by far more than rounding the inputs moves it.

    Args:
        usual: the largest entry of this gradient at the given inputs.
    """
    values, _ = working_values(moved)
    try:
        point = point_at(moved, values, context)
        if point.finite is not None:
            return False
        x = point.values[name]
        size = magnitude(x)
        u = context.signed(x.shape, "smooth", name, dtype=x.dtype, device=x.device) * size
        least = usual * size
        slopes = [_slope(point, {**values, name: at}, name, u, step) for at, step in _places(x, size, name, context)]
        finite = all(math.isfinite(slope) for slope in slopes)
        scale = max(*map(abs, slopes), least)
        if not finite or max(slopes) - min(slopes) > constants.SMOOTH_DIFFERENCE * scale:
            return False
        analytic = _projection(point, name, u)
        difference = abs(analytic - slopes[0])
        if not math.isfinite(difference):
            return True
        if difference <= constants.PLAINLY_WRONG * scale:
            return False
        return all(
            abs(_projection(rounded, name, u) - analytic) <= constants.SHARE_OF_ROUNDING * difference
            for rounded in _rounded(point, name, context)
        )
    except SubjectError:
        return False


def is_lipschitz(moved: Subject, name: str, context: CheckContext) -> bool:
    """Whether the outputs move in proportion to a step either way: there is no jump and no vertical slope."""
    values, _ = working_values(moved)
    x = values[name]
    u = context.signed(x.shape, "lipschitz", name, dtype=x.dtype, device=x.device) * magnitude(x)
    try:
        y = flatten(moved.forward(values))
        for sign in (1, -1):
            far, near = (flatten(moved.forward({**values, name: x + sign * h * u})) - y for h in constants.PLAIN_STEPS)
            ratio = constants.PLAIN_STEPS[1] / constants.PLAIN_STEPS[0]
            if not largest_entry(near) <= constants.MOST_GROWTH * ratio * largest_entry(far):
                return False
    except SubjectError:
        return False
    return True


def is_hand_written(subject: Subject) -> bool:
    """Whether a part of the backward was written by hand; False where all of it is PyTorch's own."""
    run = unguarded(subject.run({}))
    if not isinstance(run, AutogradRun):
        return True
    return any(True for _ in nodes_of_functions(run.raw.values()))


def nodes_of_functions(outputs: Iterable[Tensor]) -> Iterator[Any]:
    """The nodes, in the graph behind some outputs, of each `torch.autograd.Function` that is written in Python."""
    waiting = [y.grad_fn for y in outputs if y.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if isinstance(node, torch.autograd.function.FunctionCtx):
            yield node
        further = {after for after, _ in node.next_functions if after is not None} - seen
        seen |= further
        waiting += further


def has_value_of(reference: Callable[..., object] | None, moved: Subject, outputs: Mapping[str, Tensor]) -> bool:
    """Whether a reference, if there is one, gives the same outputs up to a share that no rounding explains."""
    if reference is None:
        return True
    values = starting_values(moved)
    try:
        with torch.no_grad():
            expected = name_outputs(
                reference(*(values[operand.name].clone() for operand in moved.operands)), "reference"
            )
    except Exception:  # whatever the reference raises there: it has no value to compare with
        return False
    if expected.keys() != outputs.keys() or any(expected[n].shape != y.shape for n, y in outputs.items()):
        return False
    apart = {n: largest_entry(expected[n].to(y) - y) for n, y in outputs.items() if y.is_floating_point()}
    return all(apart[n] <= constants.PLAIN_DIFFERENCE * largest_entry(outputs[n]) for n in apart)


def _places(x: Tensor, size: float, name: str, context: CheckContext) -> list[tuple[Tensor, float]]:
    """The point with two steps, and points close by with one."""
    coarse, fine = constants.PLAIN_STEPS
    nearby = [
        x + constants.NEARBY * size * context.signed(x.shape, "nearby", name, i, dtype=x.dtype, device=x.device)
        for i in range(constants.NEARBY_POINTS)
    ]
    return [(x, fine), (x, coarse), *((at, fine) for at in nearby)]


def _slope(point: LinearizationPoint, values: Mapping[str, Tensor], name: str, u: Tensor, step: float) -> float:
    ahead, behind = (
        flatten(point.subject.forward({**values, name: values[name] + sign * step * u})) for sign in (1, -1)
    )
    return float(torch.dot(point.cotangents[0], ahead - behind)) / (2 * step)


def _projection(point: LinearizationPoint, name: str, u: Tensor) -> float:
    gradient = point.gradients[0][name]
    if gradient is None or gradient.shape != u.shape:
        return 0.0 if gradient is None else math.nan
    return directional(gradient, u)[0] if is_finite({name: gradient}) else math.nan


def _rounded(point: LinearizationPoint, name: str, context: CheckContext) -> list[LinearizationPoint]:
    """The point with its tensor rounded otherwise, by a few units in the last place."""
    x = point.values[name]
    eps = torch.finfo(x.dtype).eps * constants.ROUNDINGS_OF_AN_ENTRY
    draws = (
        context.signed(x.shape, "rounded", name, trial, dtype=x.dtype, device=x.device)
        for trial in range(constants.ROUNDING_TRIALS)
    )
    return [point_at(point.subject, {**point.values, name: x * (1 + eps * draw)}, context) for draw in draws]
