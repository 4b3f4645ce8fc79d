"""The derivative of a scalar function at 0 by Ridders' method, with an error estimate that kinks do not fool.

φ is known through its change Δ(t) = φ(t) - φ(0). Central differences D(h) = (Δ(h) - Δ(-h)) / 2h of a smooth
function contain even powers of h alone, and are extrapolated in a table (Ridders 1982, "Accurate computation
of F'(x) and F'(x) F''(x)"; Press et al., "Numerical Recipes", section 5.7). The difference of an entry to its
two neighbors estimates its error. That estimate is blind in two ways, and both are looked for:

- Close to a kink, D(h) is the same for every h and wrong by half the jump of the slope. The even part
  S(h) = (Δ(h) + Δ(-h)) / 2h sees exactly that: it is an odd series in h for a smooth function, and half the jump
  of the slope at a kink. Extrapolated in a second table it goes to 0 as fast as the first one converges, so it is
  added to the error estimate.
- A step, or a bend that is much narrower than h, looks tame from afar. There the differences of D grow as h
  shrinks; only a table in which they shrink (by 4 each time for a smooth function), or are lost in the noise,
  counts as settled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from nn_from_scratch.verify.derivative import constants

Probes = Callable[[float], Sequence[float]]
Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class Derivative:
    """A numerical derivative.

    Attributes:
        value: φ'(0).
        error: The estimated error of `value`: truncation, kinks and rounding together.
        floor: The part of `error` that rounding alone causes.
        jump: Half the jump of the slope at 0 as far as it was resolved; part of `error`.
        step: The smallest step that `value` was made from.
        start: The largest one.
        settled: Whether the differences it was made from shrink with the step, as they must.
    """

    value: float
    error: float
    floor: float
    jump: float
    step: float
    start: float
    settled: bool

    @property
    def rank(self) -> tuple[bool, float]:
        """Smaller for a better one."""
        return (not self.settled, self.error)

    def agrees_with(self, other: Derivative) -> bool:
        """Whether the two differ by no more than their estimated errors explain."""
        return abs(self.value - other.value) <= constants.AGREEMENT * (self.error + other.error)

    @property
    def at_floor(self) -> bool:
        """Whether the error is about what rounding alone causes, so that other steps cannot improve it."""
        return self.error <= constants.AT_FLOOR * self.floor

    @property
    def noisy(self) -> bool:
        """Whether rounding, noise or nondeterminism is what limits the error."""
        return self.error <= constants.NEAR_FLOOR * self.floor


def extrapolated(first: Number, above: Sequence[Number], *, odd: bool) -> list[Number]:
    """The next row of a Ridders table, from the difference quotient for half of the step and the row above.

    Args:
        odd: Whether the error is a series of odd powers of the step, else of even ones.
    """
    row = [first]
    for m, previous in enumerate(above, 1):
        row.append(row[-1] + (row[-1] - previous) / (2 ** (2 * m - odd) - 1))
    return row


def ridders(
    delta: Callable[[float], float], start: float, noise: float, probes: Probes | None = None
) -> Derivative | None:
    """One table: steps start, start/2, start/4, ..., as long as that improves the estimate.

    Args:
        delta: Δ(t) = φ(t) - φ(0).
        start: The largest step.
        noise: The standard error of one value of Δ.
        probes: Changes of other functions with the same kinks in other proportions. The slope jumps of many kinks
            may cancel in one sum and hide; they do not in several.

    Returns:
        The entry with the smallest error estimate; None if Δ is not finite at the largest step.
    """
    best: Derivative | None = None
    row: list[float] = []
    evens: list[list[float]] = []
    change = math.inf
    for level in range(constants.TABLE_ROWS):
        h = start / 2**level
        right, left = delta(h), delta(-h)
        if not (math.isfinite(right) and math.isfinite(left)):
            return best
        sums = [right + left]
        if probes is not None:
            sums += [r + e for r, e in zip(probes(h), probes(-h), strict=True)]
        above, row = row, extrapolated((right - left) / (2 * h), row, odd=False)
        evens = [
            extrapolated(s / (2 * h), even, odd=True) for s, even in zip(sums, evens or [[] for _ in sums], strict=True)
        ]
        floor = (noise + constants.DIFFERENCE_ROUNDING * max(abs(right), abs(left))) / h
        before, change = change, abs(row[0] - above[0]) if above else math.inf
        settled = change <= constants.LOST_IN_NOISE * floor or (level >= 2 and change <= constants.CONVERGES * before)
        error = math.inf
        for m in range(1, level + 1):
            jump = max(abs(even[m]) for even in evens)
            error = max(abs(row[m] - row[m - 1]), abs(row[m] - above[m - 1])) + jump + floor
            if best is None or (not settled, error) < best.rank:
                best = Derivative(row[m], error, floor=floor, jump=jump, step=h, start=start, settled=settled)
        if best is not None and best.settled and best.at_floor:
            break
        if level >= constants.FIRST_ROW_TO_STOP_AT:
            noisy = best is not None and best.settled and best.floor > constants.FLOOR_MATTERS * best.error
            diverges = noisy and best is not None and error > constants.DIVERGES * best.error
            if diverges or (not settled and change > before):
                break
    return best


def differentiate(
    delta: Callable[[float], float],
    noise: Callable[[float], float],
    *,
    target: Callable[[float], float],
    finest: Callable[[], float],
    rounding: float,
    probes: Probes | None = None,
) -> Derivative | None:
    """Find steps at which the table settles: smaller ones past kinks, poles and edges, larger ones out of noise.

    Args:
        delta: Δ(t) = φ(t) - φ(0).
        noise: The standard error of one value of Δ, given the step at which it is used.
        target: The error that is good enough, given the derivative.
        finest: Below which start φ is a staircase (asked when smaller steps are wanted).
        rounding: The least standard error of one value of Δ. A table that settles at once to this needs no
            measured one.
        probes: As in `ridders`.

    Returns:
        The best estimate of all tables tried (a bounded number); None if Δ is finite nowhere near 0.
    """
    start = _finite_start(delta)
    if start is None:
        return None
    at_once = ridders(delta, start, rounding, probes)
    if at_once is not None and at_once.settled and at_once.at_floor and at_once.error <= target(at_once.value):
        return at_once
    best: Derivative | None = None
    growing = shrinking = False
    for _ in range(constants.TABLES):
        if start < constants.START and start < finest():
            break
        found = ridders(delta, start, rounding, probes)
        if start >= constants.START or (found is not None and found.settled):
            level = noise(start)
            found = ridders(delta, start, level, probes)
            if found is not None and found.settled and level > constants.SUSPICIOUS_NOISE * rounding:
                found = replace(found, settled=_steady(delta, found, level))
        # Larger steps may only make a derivative more exact, and not look at another part of the function.
        if growing and found is not None and best is not None and not found.agrees_with(best):
            break
        much = (not best.settled, constants.MUCH_BETTER * best.error) if best is not None else (True, math.inf)
        stalled = best is not None and found is not None and found.settled and found.rank >= much
        if best is None or (found is not None and found.rank < best.rank):
            best = found
        if stalled or (best is not None and best.settled and best.error <= target(best.value)):
            break
        if found is not None and found.settled and found.noisy and not shrinking:
            growing, start = True, start * constants.START_RATIO
        elif growing:
            break
        else:
            shrinking, start = True, start / constants.START_RATIO
    return best


def _steady(delta: Callable[[float], float], found: Derivative, noise: float) -> bool:
    """Whether steps between those of the table agree: an oscillation may look slow at steps that are its multiples."""

    def central(h: float) -> float:
        return (delta(h) - delta(-h)) / (2 * h)

    far = abs(central(found.step) - found.value)
    for share in constants.STEPS_BETWEEN:
        h = share * found.step
        if not abs(central(h) - found.value) <= 2 * far + constants.AGREEMENT * (found.error + noise / h):
            return False
    return True


def noise_level(delta: Callable[[float], float], distance: float) -> float:
    """The standard error of one value of Δ, measured at five points so close together that they should not differ.

    The points lie to one side of 0, as there may be a kink at 0 itself.

    Args:
        delta: Δ(t) = φ(t) - φ(0).
        distance: Of the points from each other.
    """
    differences = noise_differences([delta(k * distance) for k in range(1, 6)])
    level = math.hypot(*differences) / math.sqrt(len(differences))
    return level if math.isfinite(level) else 0.0


def noise_differences(values: Sequence[Number]) -> tuple[Number, Number, Number]:
    """The third and the fourth differences of five values, which are 0 for a smooth function, in units of its noise.

    After Hamming; Moré and Wild 2011, "Estimating computational noise". Each is divided by the root of the sum of the
    squares of its binomial coefficients: 1 + 9 + 9 + 1 = 20, and 1 + 16 + 36 + 16 + 1 = 70.
    """
    a, b, c, d, e = values
    third = math.sqrt(20)
    return (
        (a - 3 * b + 3 * c - d) / third,
        (b - 3 * c + 3 * d - e) / third,
        (a - 4 * b + 6 * c - 4 * d + e) / math.sqrt(70),
    )


def _finite_start(delta: Callable[[float], float]) -> float | None:
    start = constants.START
    for _ in range(constants.FINITE_STARTS):
        if math.isfinite(delta(start)) and math.isfinite(delta(-start)):
            return start
        start /= constants.FINITE_START_RATIO
    return None
