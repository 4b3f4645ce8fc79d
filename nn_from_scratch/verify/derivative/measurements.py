"""One projection of a gradient, analytic beside numeric, and what makes a disagreement certain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.differences import Derivative, noise_differences, noise_level
from nn_from_scratch.verify.derivative.probes import DirectionalProbe, VariedOperand, directional


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One directional derivative, analytic and numeric.

    Attributes:
        probe: The direction in which it was measured.
        analytic: <g, u>.
        numeric: φ'(0); None if φ is finite nowhere near 0.
        allowed: The largest |difference| that counts as agreement.
        scale: The size of the derivative: the root of the sum of the squares of its terms.
        backward_rounding: How much of what is allowed is for rounding inside the backward; `confirm` finds out.
        wrong: Whether a disagreement is beyond doubt; `confirm` finds out.
    """

    direction: str
    probe: DirectionalProbe
    analytic: float
    numeric: Derivative | None
    allowed: float
    scale: float
    backward_rounding: float = 0.0
    wrong: bool = False

    @property
    def difference(self) -> float:
        """|analytic - numeric|."""
        return float("inf") if self.numeric is None else abs(self.analytic - self.numeric.value)

    @property
    def disagrees(self) -> bool:
        """Whether the difference is more than is allowed."""
        return self.numeric is not None and self.numeric.settled and not self.difference <= self.allowed

    @property
    def margin(self) -> float:
        """|difference| / allowed."""
        return self.difference / self.allowed if self.allowed else float(self.difference > 0)

    @property
    def resolution(self) -> float:
        """The smallest relative error of the whole gradient that this measurement could have seen."""
        if self.numeric is None:
            return float("inf")
        size = max(self.scale, abs(self.numeric.value))
        return self.allowed / size if size else 0.0

    @property
    def stationary(self) -> bool:
        """Whether φ does not move at all, where the analytic derivative is small enough to be lost in rounding.

        An output that is a difference of larger intermediate values has their rounding error, not its own. Where it is
        none, an effect below the rounding of φ is as good as none, for an operand that moves by its own size.
        """
        if not self.stationary_output:
            return False
        v = float(torch.linalg.vector_norm(self.probe.varied.cotangent))
        u = float(torch.linalg.vector_norm(self.probe.direction))
        lost = constants.STATIONARY_ROUNDINGS * self.probe.eps * v * u
        return self.difference <= max(lost, constants.CANCELLED_ROUNDINGS * self.probe.rounding, self.backward_rounding)

    @property
    def stationary_output(self) -> bool:
        """Whether φ does not move at all, whatever the gradient says."""
        numeric = self.numeric
        return numeric is not None and numeric.value == 0 and numeric.error <= 2 * numeric.floor

    @property
    def noisy(self) -> bool:
        """Whether rounding, noise or nondeterminism is what limits it."""
        return self.numeric is not None and self.numeric.noisy

    @cached_property
    def resolved(self) -> bool:
        """Whether what is allowed is small beside the derivative, or the derivative is 0 up to the rounding of φ."""
        numeric, allowed, probe = self.numeric, self.allowed, self.probe
        if numeric is None or not numeric.settled or not math.isfinite(allowed):
            return False
        coarser = probe.eps > torch.finfo(torch.float64).eps or probe.varied.point.coarse
        default = constants.LOW_PRECISION_RESOLUTION if coarser else constants.RESOLUTION
        default = max(default, constants.OUTPUT_ROUNDINGS_RESOLVED * probe.varied.point.eps)
        limit = float(probe.varied.context.option("resolution", default))
        if allowed <= limit * max(self.scale, abs(numeric.value)):
            return True
        if self.scale > constants.NEGLIGIBLE_ROUNDINGS * probe.rounding or abs(numeric.value) > allowed:
            return False
        roundings = constants.NEGLIGIBLE_ALLOWED_ROUNDINGS * probe.rounding
        if probe.varied.point.coarse:
            roundings = min(roundings, constants.NEGLIGIBLE_AT_MOST * probe.natural)
        return allowed <= max(constants.NEGLIGIBLE_SHARE * probe.natural, roundings)


def measure(varied: VariedOperand, name: str, u: Tensor, *, probe: DirectionalProbe | None = None) -> Measurement:
    """Measure the derivative along one direction, perhaps with a probe that has values already."""
    gradient = varied.gradient
    if gradient is not None and (varied.point.finite is not None or varied.finite is not None):
        # The backward of an output or input that is not finite may be 0 * inf = NaN: such entries say nothing.
        u = torch.where(torch.isfinite(gradient), u, 0.0)
        gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        probe = None
    analytic, scale = directional(gradient, u)
    probe = probe or DirectionalProbe(varied, u)
    numeric = probe.derivative(scale)
    error = varied.gradient_eps * scale * probe.coarseness + (0.0 if numeric is None else numeric.error)
    allowed = varied.context.factor * error
    return Measurement(direction=name, probe=probe, analytic=analytic, numeric=numeric, allowed=allowed, scale=scale)


def measure_all(varied: VariedOperand, *names: object) -> list[Measurement]:
    """Measure one direction after the other with every cotangent, until one is enough (all of them at level "full")."""
    found: list[Measurement] = []
    for name, direction in varied.directions(*names):
        first = DirectionalProbe(varied, direction)
        for row in range(len(varied.point.gradients)):
            probe = first.for_row(row) if row else first
            found.append(measure(probe.varied, name, direction, probe=probe))
        resolved = all(m.resolved and m.resolution <= constants.ENOUGH for m in found)
        if varied.context.level == "quick" and resolved:
            break
    return found


def best(measurements: Sequence[Measurement]) -> Measurement:
    """The measurement with the finest resolution, those that are resolved first."""
    return min(measurements, key=lambda m: (not m.resolved, m.resolution))


def confirm(measurement: Measurement) -> Measurement:
    """Find out whether a disagreement is beyond doubt.

    The difference has to be larger than the noise of the analytic gradient itself, and than what rounding all operands
    makes of it; the numerical value has to be reproduced with other steps, down to the smallest that can tell; and the
    disagreement has to appear along a fresh direction too. None of this is asked of a gradient that agrees.

    Returns:
        The measurement, with whatever more has to be allowed, and whether it is `wrong`.
    """
    factor = measurement.probe.varied.context.factor
    for further in (_analytic_noise, _rounding_of_operands):
        if not measurement.disagrees:
            return measurement
        more = factor * further(measurement)
        known = measurement.allowed, measurement.backward_rounding
        measurement = replace(measurement, allowed=known[0] + more, backward_rounding=known[1] + more)
    if measurement.disagrees:
        apart = factor * _noise_farther_apart(measurement)
        measurement = replace(measurement, allowed=measurement.allowed + apart)
    if not measurement.disagrees:
        return measurement
    doubt = 2 * measurement.difference if measurement.stationary else _not_reproduced(measurement)
    if doubt is None and any(_disagrees_afresh(measurement, k) for k in range(constants.FRESH_DIRECTIONS)):
        return replace(measurement, wrong=True)
    return replace(measurement, allowed=2 * measurement.difference if doubt is None else doubt)


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
    # Where no dtype rounds the outputs, a staircase is the function's own, and has a derivative of 0 at any width.
    widest = constants.WIDE_QUANTIZATION_STEP if probe.rounded else 0.0
    if not measurement.scale and probe.quantization_step > widest:
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
        if other is not None and not other.noisy:
            # It is not rounding that keeps this table from an answer: the function varies over less than its steps, and
            # larger ones, which see an average of that, may not overrule it.
            return all_of_it
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
    largest = float(torch.stack(rows).abs().max())
    limit = constants.MOST_GRADIENT_NOISE * torch.finfo(varied.x.dtype).eps * largest
    return float(torch.linalg.vector_norm(torch.where(noise <= limit, noise, 0.0) * probe.direction))


def _rounding_of_operands(measurement: Measurement) -> float:
    """The standard error of <g, u> from terms of the backward that cancel: what rounding operands and cotangents moves.

    A norm over one entry, or over equal ones, divides what x - x leaves by a small epsilon. Its forward may get exactly
    0 there and its backward some rounding of x, also for the weight that multiplies it. So where the output does not
    move at all, as much is excused as operands of that size explain; an entry that is nothing but rounding, all of it.
    """
    varied = measurement.probe.varied
    point, context = varied.point, varied.context
    named = point.named_cotangents[varied.row]
    floating = {name: x for name, x in point.values.items() if x.is_floating_point() or x.is_complex()}
    rows = []
    for trial in range(constants.ROUNDING_TRIALS):

        def rounded(x: Tensor, kind: str, name: str, trial: int = trial) -> Tensor:
            ulps = context.signed(x.shape, "ulps", kind, name, trial, dtype=x.dtype, device=x.device)
            return x * (1 + constants.ULPS * torch.finfo(x.dtype).eps * ulps)

        values = {name: rounded(x, "operand", name) for name, x in floating.items()}
        cotangents = {name: rounded(v, "cotangent", name) for name, v in named.items()}
        try:
            gradient = point.subject.run({**point.values, **values}).backward(cotangents)[varied.name]
        except SubjectError:
            return 0.0
        rows.append(torch.zeros_like(varied.x) if gradient is None else gradient.detach())
    if varied.gradient is None or any(row.shape != varied.x.shape for row in rows):
        return 0.0
    moved = torch.stack(rows).double() - varied.gradient.detach().double()
    noise = torch.linalg.vector_norm(moved, dim=0) / len(rows) ** 0.5
    eps, size = torch.finfo(varied.x.dtype).eps, float(varied.cotangent.abs().mean())
    limit = eps * max(
        constants.MOST_GRADIENT_NOISE * float(varied.gradient.abs().max()), constants.MOST_COTANGENT_NOISE * size
    )
    if measurement.stationary_output:
        largest = max(float(x.abs().max()) for x in floating.values() if x.numel())
        limit *= max(1.0, largest)
    # A fault that jumps from one entry to another by a rounding is no rounding, unless nothing of the entry stays. One
    # of exactly zero has nothing that could: a mask that holds at equal operands alone looks like that.
    nothing_stays = (varied.gradient != 0) & (noise >= constants.ALL_NOISE * varied.gradient.abs())
    excused = (noise <= limit) | nothing_stays
    return float(torch.linalg.vector_norm(torch.where(excused, noise, 0.0) * measurement.probe.direction))
