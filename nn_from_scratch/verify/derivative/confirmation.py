"""What has to be true before a projection that disagrees is reported as wrong."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.differences import noise_differences, noise_level
from nn_from_scratch.verify.derivative.measurements import Measurement, measure

__all__ = ["confirm"]


def confirm(measurement: Measurement) -> Measurement:
    """Find out whether a disagreement is beyond doubt.

    The difference has to be larger than the noise of the analytic gradient itself; the numerical value has to be
    reproduced with other steps, down to the smallest that can tell; and the disagreement has to appear along
    a fresh direction too. None of this is asked of a gradient that agrees.

    Returns:
        The measurement, with whatever more has to be allowed, and whether it is `wrong`.
    """
    factor = measurement.probe.varied.context.factor
    for further in (_analytic_noise, _noise_farther_apart):
        if not measurement.disagrees:
            return measurement
        measurement = measurement.allowing(measurement.allowed + factor * further(measurement))
    if not measurement.disagrees:
        return measurement
    doubt = 2 * measurement.difference if measurement.stationary else _not_reproduced(measurement)
    if doubt is None and any(_disagrees_afresh(measurement, k) for k in range(constants.FRESH_DIRECTIONS)):
        return replace(measurement, wrong=True)
    return measurement.allowing(2 * measurement.difference if doubt is None else doubt)


def _not_reproduced(measurement: Measurement) -> float | None:
    """None if other steps give the same derivative; else the error that they show the first one to have."""
    numeric, probe, factor = measurement.numeric, measurement.probe, measurement.probe.varied.context.factor
    assert numeric is not None
    rounding = measurement.allowed - factor * numeric.error
    all_of_it = 2 * measurement.difference
    if numeric.start > constants.START:
        # Larger steps than usual tell what the slope is on the whole, not what it is here.
        usual = probe.table(constants.START)
        if usual is None or not abs(measurement.analytic - usual.value) > factor * usual.error + rounding:
            return all_of_it
    confirmed = 0
    for share in constants.OTHER_STARTS:
        other = probe.table(share * numeric.start)
        if other is None or not other.settled:
            continue
        if abs(measurement.analytic - other.value) > factor * other.error + rounding:
            confirmed += 1
        elif abs(other.value - numeric.value) > factor * (other.error + numeric.error):
            return factor * abs(other.value - numeric.value)
    if confirmed < constants.CONFIRMATIONS:
        return all_of_it
    if not measurement.scale and probe.quantization_step > constants.WIDE_QUANTIZATION_STEP:
        return all_of_it
    noise = max(probe.rounding, probe.nondeterminism)
    start = constants.CLOSE_START_ROUNDINGS * factor * noise / measurement.difference
    start = max(start, probe.finest(), constants.SMALLEST_START)
    settled = True
    for _ in range(constants.CLOSE_TABLES):
        if start > constants.CLOSE_START_LIMIT * numeric.start:
            break
        other = probe.table(start)
        settled = other is not None and other.settled
        if other is not None and other.settled:
            reach = factor * other.error + rounding
            if abs(numeric.value - other.value) > reach + factor * numeric.error:
                return all_of_it
            if abs(measurement.analytic - other.value) > reach:
                return None
        start *= constants.CLOSE_START_RATIO
    return None if settled else all_of_it


def _noise_farther_apart(measurement: Measurement) -> float:
    """The error of the derivative from noise that shows only between points that are farther apart (rounding to steps).

    Third differences of a smooth function grow with the cube of the distance; what does not is noise.
    """
    numeric = measurement.numeric
    assert numeric is not None
    levels = [noise_level(measurement.probe.change, distance * numeric.start) for distance in constants.NOISE_DISTANCES]
    noise = [level for farther, level in pairwise(levels) if level * constants.GROWTH_OF_SMOOTH > farther]
    return max(noise, default=0.0) / numeric.step


def _disagrees_afresh(measurement: Measurement, attempt: int) -> bool:
    probe = measurement.probe
    fresh = probe.varied.draw("confirmation", attempt) * probe.direction.abs()
    return measure(probe.varied, measurement.direction, fresh).disagrees


def _analytic_noise(measurement: Measurement) -> float:
    """The standard error of <g, u> from rounding inside the backward.

    Third and fourth differences of g over five points close together, at each of which the cotangent is another one as
    well: g is linear in it, so that it may move far. More than rounding can explain is no excuse.
    """
    probe, varied, numeric = measurement.probe, measurement.probe.varied, measurement.numeric
    assert numeric is not None
    named = varied.point.named_cotangents[varied.row]
    moves = varied.context.cotangents(named, "noise")
    rows = []
    for k in range(1, 6):
        cotangents = {name: v + (constants.COTANGENT_MOVE * k) * v.abs() * moves[name] for name, v in named.items()}
        x = probe.value_at(k * constants.NOISE_SPACING * numeric.start)
        try:
            gradient = varied.gradient_at(x, cotangents)
        except SubjectError:  # the value beside the point is outside of the domain
            return 0.0
        rows.append(torch.zeros_like(probe.direction) if gradient is None else gradient.detach().double())
    differences = torch.stack(noise_differences(rows))
    noise = torch.linalg.vector_norm(differences, dim=0) / len(differences) ** 0.5
    size = float(varied.cotangent.abs().mean())
    largest = float(torch.stack(rows).abs().max())
    eps = torch.finfo(varied.x.dtype).eps
    limit = eps * max(constants.MOST_GRADIENT_NOISE * largest, constants.MOST_COTANGENT_NOISE * size)
    return float(torch.linalg.vector_norm(torch.where(noise <= limit, noise, 0.0) * probe.direction))
