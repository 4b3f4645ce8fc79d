"""Points at which a subject is not differentiable: what a backward may return there.

At a kink (ReLU at 0, ties of a max) every output has a derivative to the left and one to the right of the
point, and the gradients of the points around lie between them. A backward may return anything in between,
summed over the outputs with their cotangents. Where the kinks of several intermediate values meet in one
output, the chain rule may leave that interval although every factor is right; then nothing is reported as wrong.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from nn_from_scratch.verify.comparison import ANALYTIC_AND_NUMERIC, Mismatch, compare
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.linearization import point_with
from nn_from_scratch.verify.derivative.probes import DirectionalProbe, VariedOperand, directional


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The outcome of `bounds_at_kink`.

    Attributes:
        verdict: Whether the gradient is within the one-sided derivatives; "unclear" if it is not, but several
            kinks may meet in one output; "unmeasured" if most outputs have no slope that settles.
        analytic: <g, u> where it is outside (or in the last direction).
        low: The smallest value allowed there.
        high: The largest.
        share: The share of the outputs that have a kink.
    """

    verdict: Literal["inside", "outside", "unclear", "unmeasured"]
    analytic: float = 0.0
    low: float = 0.0
    high: float = 0.0
    share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Slopes:
    """The one-sided derivatives of every output in one direction, and their error."""

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


def bounds_at_kink(varied: VariedOperand) -> Bounds:
    """Compare a gradient with the one-sided derivatives, where some outputs have a kink along some directions."""
    share = 0.0
    unclear: Bounds | None = None
    last = Bounds(verdict="inside")
    named = varied.point.named_cotangents[0]
    for cotangents in (named, {name: v if v.is_complex() else v.abs() for name, v in named.items()}):
        for direction in _directions(varied):
            slopes = _slopes(varied, direction)
            kinked = (slopes.jump.abs() > slopes.error) | slopes.one_sided
            share = max(share, float(kinked.double().mean()))
            if float(slopes.unknown.double().mean()) > constants.MOST_UNKNOWN:
                return Bounds(verdict="unmeasured", share=share)
            known = _without(varied, cotangents, slopes.unknown)
            last = _compared(known, direction, slopes)
            if last.verdict == "outside":
                last = _compared(known, direction, _widened(known, direction, slopes))
            if last.verdict == "outside":
                last = _compared_where_exact(known, direction, slopes)
            if last.verdict == "outside":
                return replace(last, share=share)
            if last.verdict == "unclear":
                unclear = last
    return replace(unclear or last, share=share)


def entries_outside(varied: VariedOperand, *, seconds: float) -> Mismatch | None:
    """The entries of a gradient at a kink that are outside of the one-sided derivatives all by themselves.

    The worst one has the nearest value that would be allowed. None if there is none (entries that are wrong only
    together, as when a tie is counted twice), or if it would take longer than `seconds`, which a few entries tell.
    """
    x, gradient = varied.x, varied.gradient
    analytic = torch.zeros(x.numel(), dtype=torch.float64)
    if gradient is not None:
        analytic = gradient.detach().to("cpu", torch.float64).reshape(-1)
    nearest, allowed = analytic.clone(), torch.zeros_like(analytic)
    began = time.monotonic()
    for index in range(x.numel()):
        if index == constants.TIMED_ENTRIES and (time.monotonic() - began) / index * x.numel() > seconds:
            return None
        direction = varied.single(index)
        slopes = _slopes(varied, direction)
        if bool(slopes.unknown.any()):
            continue
        bounds = _compared(varied, direction, slopes)
        nearest[index] = min(max(bounds.analytic, bounds.low), bounds.high) / varied.size
        error = float((slopes.error * varied.cotangent.abs()).sum())
        largest = max(abs(bounds.low), abs(bounds.high))
        allowed[index] = (error + constants.BOUND_SLACK * largest) / varied.size
    values = (t.reshape(x.shape) for t in (analytic, nearest, allowed))
    return compare(*values, sides=ANALYTIC_AND_NUMERIC).mismatch


def one_sided_derivatives(varied: VariedOperand, index: int) -> tuple[float, float] | None:
    """Between what the derivative by one entry lies at a kink, whatever the convention.

    Args:
        index: The flat index of the entry.

    Returns:
        The least and the largest value; None unless every output has a finite derivative to either side, along this
        entry and along directions that move all of them.
    """
    directions = [varied.single(index), *_directions(varied)]
    slopes = [_slopes(varied, direction) for direction in directions]
    if any(bool((each.unknown | each.one_sided).any()) for each in slopes):
        return None
    ends = torch.stack([varied.cotangent * slopes[0].left, varied.cotangent * slopes[0].right]) / varied.size
    return float(ends.min(dim=0).values.sum()), float(ends.max(dim=0).values.sum())


def is_differentiable(varied: VariedOperand) -> bool:
    """Whether directional derivatives add up, u by u, as they do wherever a function is differentiable."""
    return not bool(_not_additive(varied).any())


def _directions(varied: VariedOperand) -> list[Tensor]:
    r = varied.draw("direction", "kink", 0)
    # Entries that are tied move together, so that a max keeps a slope: it sees a tie that was counted twice.
    together = varied.size * (1 + constants.TOGETHER_SPREAD * r)
    return [together, varied.direction("kink", 1), varied.size * r]


def _slopes(varied: VariedOperand, direction: Tensor) -> _Slopes:
    probe = DirectionalProbe(varied, direction)
    right, right_error = _one_sided(probe, 1)
    left, left_error = _one_sided(probe, -1)
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


def _one_sided(probe: DirectionalProbe, sign: int) -> tuple[Tensor, Tensor]:
    """The one-sided derivative of every output: first differences, freed of the first two powers of h."""
    low_precision = probe.low_precision
    step = constants.LOW_PRECISION_KINK_STEP if low_precision else constants.KINK_STEP
    # The relative error that the rounding of the moved operand leaves in a slope.
    width = max(probe.eps, probe.quantization_step)
    tolerance = max(constants.SLOPE_TOLERANCE, constants.SLOPE_ROUNDINGS * width / step)
    y, noise = probe.varied.point.outputs, probe.varied.point.noise
    rows = [(probe.outputs(h) - y) / h for h in (sign * step, sign * step / 2, sign * step / 4)]
    first = [2 * rows[1] - rows[0], 2 * rows[2] - rows[1]]
    second = (4 * first[1] - first[0]) / 3
    spread = torch.maximum((second - first[1]).abs(), (first[1] - first[0]).abs())
    noise = constants.SLOPE_NOISE * probe.coarseness * noise / (step / 4)
    error = spread + noise + tolerance * second.abs()
    before, after = (rows[1] - rows[0]).abs(), (rows[2] - rows[1]).abs()
    settled = (after <= constants.SLOPE_CONVERGES * before) | (after <= noise) | (after <= tolerance * second.abs())
    unknown = ~(torch.isfinite(second) & torch.isfinite(error) & settled)
    return torch.where(unknown, 0.0, second), torch.where(unknown, float("inf"), error)


def _compared(varied: VariedOperand, direction: Tensor, slopes: _Slopes) -> Bounds:
    ends = torch.stack([varied.cotangent * slopes.low, varied.cotangent * slopes.high]).nan_to_num(nan=0.0)
    low, high = float(ends.min(dim=0).values.sum()), float(ends.max(dim=0).values.sum())
    analytic, scale = directional(varied.gradient, direction)
    slack = constants.BOUND_SLACK * scale
    inside = low - slack <= analytic <= high + slack
    return Bounds(verdict="inside" if inside else "outside", analytic=analytic, low=low, high=high)


def _widened(varied: VariedOperand, direction: Tensor, slopes: _Slopes) -> _Slopes:
    """The bounds, widened by the derivatives at points around: those of a median lie on neither side of a direction."""
    low, high = slopes.low, slopes.high
    wider = slopes
    step = constants.NEARBY_STEP_SHARE * constants.NEARBY_DISTANCE
    u = (direction * step).to(varied.x.dtype)
    for count in constants.NEARBY_POINTS:
        for k in range(count):
            r = varied.draw("nearby", count, k)
            near = torch.add(varied.x, (r * (constants.NEARBY_DISTANCE * varied.size)).to(varied.x.dtype))
            slope = (varied.outputs(near + u) - varied.outputs(near - u)) / (2 * step)
            low, high = torch.fmin(low, slope), torch.fmax(high, slope)
        wider = replace(slopes, left=low, right=high, error=torch.zeros_like(low))
        if _compared(varied, direction, wider).verdict == "inside":
            break
    return wider


def _compared_where_exact(varied: VariedOperand, direction: Tensor, slopes: _Slopes) -> Bounds:
    """Outside counts as wrong for outputs that are convex or concave or smooth here: there the chain rule is exact."""
    up = torch.zeros_like(slopes.unknown)
    down = torch.zeros_like(up)
    for k in range(constants.CONVEXITY_DIRECTIONS):
        found = _slopes(varied, varied.direction("convexity", k))
        up |= found.jump > found.error
        down |= found.jump < -found.error
    irregular = (up & down) | (~up & ~down & _not_additive(varied))
    if bool(irregular.any()):
        varied = _without(varied, varied.point.named_cotangents[0], irregular)
    bounds = _compared(varied, direction, slopes)
    return bounds if bounds.verdict == "outside" else replace(bounds, verdict="unclear")


def _not_additive(varied: VariedOperand) -> Tensor:
    """For each output, whether the derivative along a + b differs from the sum of those along a and along b."""
    found = torch.zeros_like(varied.point.outputs, dtype=torch.bool)
    for k in range(constants.ADDITIVITY_PAIRS):
        a, b = (varied.direction("additive", k, i) for i in range(2))
        one, other, both = (_slopes(varied, u) for u in (a, b, a + b))
        error = one.error + other.error + both.error
        found |= (both.left - one.left - other.left).abs() > error
        found |= (both.right - one.right - other.right).abs() > error
        found |= both.jump.abs() > both.error
    return found


def _without(varied: VariedOperand, cotangents: Mapping[str, Tensor], outputs: Tensor) -> VariedOperand:
    """The same operand at a point with given cotangents, set to 0 for some outputs."""
    kept = {}
    begin = 0
    for name, v in cotangents.items():
        count = v.numel() * (2 if v.is_complex() else 1)
        drop = outputs[begin : begin + count]
        drop = drop.reshape(*v.shape, 2).any(dim=-1) if v.is_complex() else drop.reshape(v.shape)
        kept[name] = torch.where(drop, torch.zeros_like(v), v)
        begin += count
    point = point_with(varied.point.subject, varied.point.values, kept, differentiated=True)
    return replace(varied, point=point, row=0)
