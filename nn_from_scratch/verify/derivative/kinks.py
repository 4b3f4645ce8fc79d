"""Points at which a subject is not differentiable: what a backward may return there.

At a kink (ReLU at 0, ties of a max) every output has a derivative to the left and one to the right of the
point, and the gradients of the points around lie between them. A backward may return anything in between,
summed over the outputs with their cotangents. Where the kinks of several intermediate values meet in one
output, the chain rule may leave that interval although every factor is right; then nobody is accused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from nn_from_scratch.verify.comparison import Mismatch, compare
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.linearization import LinearizationPoint, point_with
from nn_from_scratch.verify.derivative.probes import DirectionalProbe, directional, magnitude

__all__ = ["Bounds", "bounds_at_kink", "entries_outside", "is_differentiable"]

_STEP = 1e-5
_COARSE_STEP = 0.03
_TOLERANCE = 1e-6
_NEIGHBOURS = (8, 24)
_NEIGHBOUR_DISTANCE = 1e-4
_SHAPE_DIRECTIONS = 16
_PAIRS = 3
_MOST_UNKNOWN = 0.5
_ESTIMATE_FROM = 8


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The outcome of `bounds_at_kink`.

    Attributes:
        verdict: Whether the gradient is within the one-sided derivatives; "unclear" if it is not, but several
            kinks may meet in one output; "unmeasured" if most outputs have no slope that settles.
        analytic: <g, u> where it is outside (or in the last experiment).
        low: The smallest value allowed there.
        high: The largest.
        share: The share of the outputs that have a kink.
    """

    verdict: Literal["inside", "outside", "unclear", "unmeasured"]
    analytic: float
    low: float
    high: float
    share: float


@dataclass(frozen=True, kw_only=True)
class _Slopes:
    left: Tensor
    right: Tensor
    error: Tensor
    one_sided: Tensor
    unknown: Tensor

    @property
    def jump(self) -> Tensor:
        return self.right - self.left

    @property
    def low(self) -> Tensor:
        return torch.minimum(self.left, self.right) - self.error

    @property
    def high(self) -> Tensor:
        return torch.maximum(self.left, self.right) + self.error


def bounds_at_kink(point: LinearizationPoint, slot: str, context: CheckContext) -> Bounds:
    """Hold a gradient at a kink against the one-sided derivatives.

    Args:
        point: A point at which some outputs have a kink along some directions.
        slot: The tensor.
        context: Seed and deadline.
    """
    share = 0.0
    unclear: Bounds | None = None
    last = Bounds(verdict="inside", analytic=0.0, low=0.0, high=0.0, share=0.0)
    for positive in (False, True):
        v_set = point.named_cotangents[0]
        if positive:
            v_set = {name: v if v.is_complex() else v.abs() for name, v in v_set.items()}
        for direction in _directions(point, slot, context):
            slopes = _slopes(point, slot, direction, context)
            kinked = (slopes.jump.abs() > slopes.error) | slopes.one_sided
            share = max(share, float(kinked.double().mean()))
            if float(slopes.unknown.double().mean()) > _MOST_UNKNOWN:
                return Bounds(verdict="unmeasured", analytic=0.0, low=0.0, high=0.0, share=share)
            at = _without(point, v_set, slopes.unknown)
            last = _held(at, slot, direction, slopes)
            if last.verdict == "outside":
                last = _held(at, slot, direction, _widened(at, slot, direction, slopes, context))
            if last.verdict == "outside":
                last = _judged(at, slot, direction, slopes, context)
            if last.verdict == "outside":
                return replace(last, share=share)
            if last.verdict == "unclear":
                unclear = last
    return replace(unclear or last, share=share)


def entries_outside(point: LinearizationPoint, slot: str, context: CheckContext, *, seconds: float) -> Mismatch | None:
    """The entries of a gradient at a kink that are outside of the one-sided derivatives all by themselves.

    Args:
        point: The point.
        slot: The tensor.
        context: Gives the deadline.
        seconds: How long it may take; decided after a few entries.

    Returns:
        The worst entry, with the nearest value that would be allowed; None if there is none (entries that are wrong
        only together, as when a tie is counted twice), or it would take too long.
    """
    x = point.values[slot]
    size = magnitude(x)
    gradient = point.gradients[0][slot]
    analytic = torch.zeros(x.numel(), dtype=torch.float64)
    if gradient is not None:
        analytic = gradient.detach().to("cpu", torch.float64).reshape(-1)
    nearest, allowed = analytic.clone(), torch.zeros_like(analytic)
    began = time.monotonic()
    for index in range(x.numel()):
        if index == _ESTIMATE_FROM and (time.monotonic() - began) / index * x.numel() > seconds:
            return None
        u = torch.zeros(x.numel(), dtype=torch.float64, device=x.device)
        u[index] = size
        direction = u.reshape(x.shape)
        slopes = _slopes(point, slot, direction, context)
        if bool(slopes.unknown.any()):
            continue
        held = _held(point, slot, direction, slopes)
        nearest[index] = min(max(held.analytic, held.low), held.high) / size
        error = float((slopes.error * point.cotangents[0].abs()).sum())
        allowed[index] = (error + 1e-9 * max(abs(held.low), abs(held.high))) / size
    return compare(analytic.reshape(x.shape), nearest.reshape(x.shape), allowed.reshape(x.shape)).mismatch


def is_differentiable(point: LinearizationPoint, slot: str, context: CheckContext) -> bool:
    """Whether directional derivatives add up, u by u, as they do wherever a function is differentiable."""
    return not bool(_crooked(point, slot, context).any())


def _directions(point: LinearizationPoint, slot: str, context: CheckContext) -> list[Tensor]:
    x = point.values[slot]
    size = magnitude(x)
    r = context.signed(x.shape, "direction", slot, "kink", 0, device=x.device)
    # Entries that are tied move together, so that a max keeps a slope: it sees a tie that was counted twice.
    together = size * (1 + 0.1 * r)
    alternating = size * context.signed(x.shape, "direction", slot, "kink", 1, device=x.device)
    return [together, alternating, size * r]


def _slopes(point: LinearizationPoint, slot: str, direction: Tensor, context: CheckContext) -> _Slopes:
    line = DirectionalProbe(point, slot, direction, context)
    right, right_error = _one_sided(point, line, 1.0)
    left, left_error = _one_sided(point, line, -1.0)
    no_left, no_right = torch.isinf(left_error), torch.isinf(right_error)
    # At a step one side has no slope: the value at the point itself belongs to the other side.
    left, left_error = torch.where(no_left, right, left), torch.where(no_left, right_error, left_error)
    right, right_error = torch.where(no_right, left, right), torch.where(no_right, left_error, right_error)
    unknown = no_left & no_right
    return _Slopes(
        left=left,
        right=right,
        error=torch.where(unknown, 0.0, left_error + right_error),
        one_sided=no_left ^ no_right,
        unknown=unknown,
    )


def _one_sided(point: LinearizationPoint, line: DirectionalProbe, sign: float) -> tuple[Tensor, Tensor]:
    """The one-sided derivative of every output: first differences, freed of the first two powers of h."""
    rows = []
    size, tolerance = _step(line)
    for k in range(3):
        h = sign * size / 2**k
        rows.append((line.outputs(h) - point.outputs) / h)
    first = [2 * rows[1] - rows[0], 2 * rows[2] - rows[1]]
    second = (4 * first[1] - first[0]) / 3
    spread = torch.maximum((second - first[1]).abs(), (first[1] - first[0]).abs())
    noise = 16 * line.coarseness * point.noise / (size / 4)
    error = spread + noise + tolerance * second.abs()
    before, after = (rows[1] - rows[0]).abs(), (rows[2] - rows[1]).abs()
    settled = (after <= 0.75 * before) | (after <= noise) | (after <= tolerance * second.abs())
    unknown = ~(torch.isfinite(second) & torch.isfinite(error) & settled)
    return torch.where(unknown, 0.0, second), torch.where(unknown, float("inf"), error)


def _step(line: DirectionalProbe) -> tuple[float, float]:
    """The largest step, and the relative error that the rounding of the moved tensor leaves in a slope."""
    eps = torch.finfo(line.x.dtype).eps
    step = _COARSE_STEP if line.coarse else _STEP
    width = max(eps * line.coarseness, line.quantization_step())
    return step, max(_TOLERANCE, 64 * width / step)


def _held(point: LinearizationPoint, slot: str, direction: Tensor, slopes: _Slopes) -> Bounds:
    v = point.cotangents[0]
    ends = torch.stack([v * slopes.low, v * slopes.high]).nan_to_num(nan=0.0)
    low, high = float(ends.min(dim=0).values.sum()), float(ends.max(dim=0).values.sum())
    analytic, scale = directional(point.gradients[0][slot], direction)
    slack = 1e-9 * scale
    inside = low - slack <= analytic <= high + slack
    return Bounds(verdict="inside" if inside else "outside", analytic=analytic, low=low, high=high, share=0.0)


def _widened(
    point: LinearizationPoint, slot: str, direction: Tensor, slopes: _Slopes, context: CheckContext
) -> _Slopes:
    """The bounds, widened by the derivatives at points around: those of a median lie on neither side of a line."""
    low, high = slopes.low, slopes.high
    x = point.values[slot]
    size = magnitude(x)
    for count in _NEIGHBOURS:
        for k in range(count):
            r = context.signed(x.shape, "neighbour", slot, count, k, device=x.device)
            near = torch.add(x, (r * (_NEIGHBOUR_DISTANCE * size)).to(x.dtype))
            u = (direction * (1e-3 * _NEIGHBOUR_DISTANCE)).to(x.dtype)
            change = point.at(slot, near + u) - point.at(slot, near - u)
            slope = change / (2e-3 * _NEIGHBOUR_DISTANCE)
            context.require_time()
            low = torch.fmin(low, slope)
            high = torch.fmax(high, slope)
        wider = replace(slopes, left=low, right=high, error=torch.zeros_like(low))
        if _held(point, slot, direction, wider).verdict == "inside":
            break
    return wider


def _judged(point: LinearizationPoint, slot: str, direction: Tensor, slopes: _Slopes, context: CheckContext) -> Bounds:
    """Outside counts as wrong for outputs that are convex or concave or smooth here: there the chain rule is exact."""
    x = point.values[slot]
    size = magnitude(x)
    up = torch.zeros_like(slopes.jump, dtype=torch.bool)
    down = torch.zeros_like(up)
    for k in range(_SHAPE_DIRECTIONS):
        u = size * context.signed(x.shape, "direction", slot, "convexity", k, device=x.device)
        found = _slopes(point, slot, u, context)
        up |= found.jump > found.error
        down |= found.jump < -found.error
    irregular = (up & down) | (~up & ~down & _crooked(point, slot, context))
    if bool(irregular.any()):
        point = _without(point, point.named_cotangents[0], irregular)
    held = _held(point, slot, direction, slopes)
    if held.verdict == "outside":
        return held
    return Bounds(verdict="unclear", analytic=held.analytic, low=held.low, high=held.high, share=0.0)


def _crooked(point: LinearizationPoint, slot: str, context: CheckContext) -> Tensor:
    x = point.values[slot]
    size = magnitude(x)
    crooked = torch.zeros_like(point.outputs, dtype=torch.bool)
    for k in range(_PAIRS):
        a = size * context.signed(x.shape, "direction", slot, "additive", k, 0, device=x.device)
        b = size * context.signed(x.shape, "direction", slot, "additive", k, 1, device=x.device)
        one, other, both = (_slopes(point, slot, u, context) for u in (a, b, a + b))
        for side in ("left", "right"):
            excess = getattr(both, side) - getattr(one, side) - getattr(other, side)
            crooked |= excess.abs() > one.error + other.error + both.error
        crooked |= both.jump.abs() > both.error
    return crooked


def _without(point: LinearizationPoint, cotangents: Mapping[str, Tensor], outputs: Tensor) -> LinearizationPoint:
    """The same point with given cotangents, set to 0 for some outputs."""
    kept = {}
    begin = 0
    for name, v in cotangents.items():
        count = v.numel() * (2 if v.is_complex() else 1)
        drop = outputs[begin : begin + count]
        drop = drop.reshape(*v.shape, 2).any(dim=-1) if v.is_complex() else drop.reshape(v.shape)
        kept[name] = torch.where(drop, torch.zeros_like(v), v)
        begin += count
    return point_with(point.subject, point.values, kept, differentiated=True)
