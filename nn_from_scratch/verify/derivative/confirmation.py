"""What has to be true before a projection that disagrees accuses anybody."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.differences import START, noise_level
from nn_from_scratch.verify.derivative.measurements import Measurement, measure, with_allowed

__all__ = ["Confirmation", "confirm"]

_COARSE_DISTANCES = (0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4)
_GROWS_CUBIC = 8.0
_STARTS = (0.8, 0.62, 0.47, 1.27, 0.11)
_CONFIRMATIONS = 3
_CLOSE_ATTEMPTS = 6
_COARSE_STAIR = 1e-6
_CLOSE = 1e-5
_COTANGENT_MOVE = 0.1
_SMALLEST_START = 1e-11
_NOISE_SHARE = 1e5
_NOISE_FLOOR = 1e4


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What remains of a disagreement.

    Attributes:
        wrong: Whether it is beyond doubt.
        measurement: The measurement, with whatever more has to be allowed.
    """

    wrong: bool
    measurement: Measurement


def confirm(measurement: Measurement, context: CheckContext) -> Confirmation:
    """Find out whether a disagreement is beyond doubt.

    The difference has to be larger than the noise of the analytic gradient itself; the numerical value has to be
    reproduced with other steps, down to the smallest that can tell; and the disagreement has to appear along
    a fresh direction too. None of this is asked of a gradient that agrees.

    Args:
        measurement: A measurement.
        context: Factor and deadline.
    """
    if not measurement.disagrees:
        return Confirmation(wrong=False, measurement=measurement)
    measurement = with_allowed(
        measurement, measurement.allowed + context.factor * _gradient_noise(measurement, context), context
    )
    if not measurement.disagrees:
        return Confirmation(wrong=False, measurement=measurement)
    measurement = with_allowed(measurement, measurement.allowed + _coarse_error(measurement, context), context)
    if not measurement.disagrees:
        return Confirmation(wrong=False, measurement=measurement)
    doubt = 2 * measurement.difference if measurement.still else _not_reproduced(measurement, context)
    if doubt is not None:
        return Confirmation(wrong=False, measurement=with_allowed(measurement, doubt, context))
    if any(_fresh_disagrees(measurement, context, attempt) for attempt in range(2)):
        return Confirmation(wrong=True, measurement=measurement)
    return Confirmation(wrong=False, measurement=with_allowed(measurement, 2 * measurement.difference, context))


def _not_reproduced(measurement: Measurement, context: CheckContext) -> float | None:
    """None if other steps give the same derivative; else the error that they show the first one to have."""
    numeric, line, factor = measurement.numeric, measurement.line, context.factor
    assert numeric is not None
    rounding = measurement.allowed - factor * numeric.error
    if numeric.start > START:
        # Larger steps than usual tell what the slope is on the whole, not what it is here.
        usual = line.table(measurement.row, START)
        if usual is None or not abs(measurement.analytic - usual.value) > factor * usual.error + rounding:
            return 2 * measurement.difference
    confirmed = 0
    for share in _STARTS:
        other = line.table(measurement.row, share * numeric.start)
        if other is None or not other.settled:
            continue
        if abs(measurement.analytic - other.value) > factor * other.error + rounding:
            confirmed += 1
        elif abs(other.value - numeric.value) > factor * (other.error + numeric.error):
            return factor * abs(other.value - numeric.value)
    if confirmed < _CONFIRMATIONS:
        return 2 * measurement.difference
    if not measurement.scale and line.quantization_step() > _COARSE_STAIR:
        return 2 * measurement.difference
    start = 64 * factor * max(line.rounding(measurement.row), line.point.nondeterminism(measurement.row))
    start = max(start / measurement.difference, line.finest(), _SMALLEST_START)
    settled = True
    for _ in range(_CLOSE_ATTEMPTS):
        if start > 0.05 * numeric.start:
            break
        other = line.table(measurement.row, start)
        settled = other is not None and other.settled
        if other is not None and other.settled:
            reach = factor * other.error + rounding
            if abs(numeric.value - other.value) > reach + factor * numeric.error:
                return 2 * measurement.difference
            if abs(measurement.analytic - other.value) > reach:
                return None
        start *= 16
    return None if settled else 2 * measurement.difference


def _coarse_error(measurement: Measurement, context: CheckContext) -> float:
    """What has to be allowed for noise that shows only between points that are farther apart (rounding to steps).

    Third differences of a smooth function grow with the cube of the distance; what does not is noise.
    """
    line, numeric = measurement.line, measurement.numeric
    assert numeric is not None
    change = partial(line.change, measurement.row)
    levels = [noise_level(change, distance * numeric.start) for distance in _COARSE_DISTANCES]
    noise = 0.0
    for farther, level in pairwise(levels):
        if level * _GROWS_CUBIC > farther:
            noise = max(noise, level)
    return context.factor * noise / numeric.step


def _fresh_disagrees(measurement: Measurement, context: CheckContext, attempt: int) -> bool:
    line = measurement.line
    signed = context.signed(line.x.shape, "confirmation", line.slot, attempt, device=line.x.device)
    fresh = signed * line.direction.abs()
    return measure(line.point, line.slot, measurement.direction, fresh, context, row=measurement.row).disagrees


def _gradient_noise(measurement: Measurement, context: CheckContext) -> float:
    try:
        return _analytic_noise(measurement, context)
    except SubjectError:  # a value beside the point is out of the domain
        return 0.0


def _analytic_noise(measurement: Measurement, context: CheckContext) -> float:
    """The standard error of <g, u> from rounding inside the backward.

    Third and fourth differences of g over five points close together, at each of which the cotangent is another one as
    well: g is linear in it, so that it may move far. More than rounding can explain is no excuse.
    """
    line, numeric, row = measurement.line, measurement.numeric, measurement.row
    assert numeric is not None
    named = line.point.named_cotangents[row]
    moves = context.cotangents(named, "noise")
    rows = []
    for k in range(1, 6):
        x = torch.add(line.x, line.u, alpha=k * _CLOSE * numeric.start)
        cotangents = {name: v + (_COTANGENT_MOVE * k) * v.abs() * moves[name] for name, v in named.items()}
        gradient = line.point.gradient(line.slot, row, {line.slot: x}, cotangents)
        rows.append(torch.zeros_like(line.direction) if gradient is None else gradient.detach().double())
    a, b, c, d, e = rows
    thirds = (a - 3 * b + 3 * c - d).square() / 20 + (b - 3 * c + 3 * d - e).square() / 20
    noise = ((thirds + (a - 4 * b + 6 * c - 4 * d + e).square() / 70) / 3).sqrt()
    size = float(line.cotangents[row].abs().mean())
    eps = torch.finfo(line.x.dtype).eps
    limit = eps * max(_NOISE_SHARE * float(torch.stack(rows).abs().max()), _NOISE_FLOOR * size)
    return float(torch.linalg.vector_norm(torch.where(noise <= limit, noise, 0.0) * line.direction))
