"""The derivative of a scalar function at 0 by Ridders' method, with an error estimate that kinks do not fool.

φ is known through its change Δ(t) = φ(t) - φ(0). Central differences D(h) = (Δ(h) - Δ(-h)) / 2h of a smooth
function contain even powers of h alone, and are extrapolated in a table (Ridders 1982, "Accurate computation
of F'(x) and F'(x) F''(x)"; Press et al., "Numerical Recipes", section 5.7). The difference of an entry to its
two neighbours estimates its error. That estimate is blind in two ways, and both are looked for:

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

__all__ = ["START", "Derivative", "Probes", "differentiate", "noise_level", "ridders"]

Probes = Callable[[float], Sequence[float]]

START = 0.1
_LEVELS = 7
_DIVERGED = 2.0
_SHRINK = 32.0
_ATTEMPTS = 9
_FINITE_ATTEMPTS = 24
_IDLE = 2
_NOISY = 4.0
_BETWEEN = (0.3, 0.13)
_ROUNDING = 2.0**-51
_AT_FLOOR = 2.0
_CONVERGES = 0.7
_LOST_IN_NOISE = 8.0


@dataclass(frozen=True, kw_only=True)
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
    odd: list[float] = []
    evens: list[list[float]] = []
    change = math.inf
    for level in range(_LEVELS):
        h = start / 2**level
        right, left = delta(h), delta(-h)
        if not (math.isfinite(right) and math.isfinite(left)):
            return best
        new_odd, new_evens = [(right - left) / (2 * h)], [[(right + left) / (2 * h)]]
        if probes is not None:
            new_evens += [[(r + e) / (2 * h)] for r, e in zip(probes(h), probes(-h), strict=True)]
        floor = (noise + _ROUNDING * max(abs(right), abs(left))) / h
        before, change = change, abs(new_odd[0] - odd[0]) if odd else math.inf
        settled = change <= _LOST_IN_NOISE * floor or (level >= 2 and change <= _CONVERGES * before)
        error = math.inf
        for m in range(1, level + 1):
            new_odd.append(new_odd[m - 1] + (new_odd[m - 1] - odd[m - 1]) / (4**m - 1))
            for new_even, even in zip(new_evens, evens, strict=True):
                new_even.append(new_even[m - 1] + (new_even[m - 1] - even[m - 1]) / (2 ** (2 * m - 1) - 1))
            jump = max(abs(new_even[m]) for new_even in new_evens)
            spread = max(abs(new_odd[m] - new_odd[m - 1]), abs(new_odd[m] - odd[m - 1]))
            error = spread + jump + floor
            if best is None or (not settled, error) < (not best.settled, best.error):
                best = Derivative(
                    value=new_odd[m],
                    error=error,
                    floor=floor,
                    jump=jump,
                    step=h,
                    start=start,
                    settled=settled,
                )
        if best is not None and best.settled:
            if best.error <= (1 + _AT_FLOOR) * best.floor:
                break
            if level >= 3 and error > _DIVERGED * best.error and best.floor > 0.01 * best.error:
                break
        if level >= 3 and not settled and change > before:
            break
        odd, evens = new_odd, new_evens
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
    if (
        at_once is not None
        and at_once.settled
        and at_once.error <= min((1 + _AT_FLOOR) * at_once.floor, target(at_once.value))
    ):
        return at_once
    best: Derivative | None = None
    growing = shrinking = False
    idle = 0
    for _ in range(_ATTEMPTS):
        if start < START and start < finest():
            break
        found = ridders(delta, start, rounding, probes)
        if start >= START or (found is not None and found.settled):
            level = noise(start)
            found = ridders(delta, start, level, probes)
            if found is not None and found.settled and level > _NOISY * rounding:
                found = replace(found, settled=_steady(delta, found, level))
        if growing and found is not None and best is not None and not _agree(found, best):
            break
        improved = found is not None and (best is None or _rank(found) < _rank(best))
        much = found is not None and (best is None or _rank(found) < (not best.settled, 0.5 * best.error))
        idle = 0 if much or found is None or not found.settled else idle + 1
        if improved:
            best = found
        if best is not None and best.settled and best.error <= target(best.value):
            break
        if idle >= _IDLE or ((growing or shrinking) and not improved and _noisy(found)):
            break
        if _noisy(found) and not shrinking:
            growing, start = True, start * _SHRINK
        elif growing:
            break
        else:
            shrinking, start = True, start / _SHRINK
    return best


def _steady(delta: Callable[[float], float], found: Derivative, noise: float) -> bool:
    """Whether steps between those of the table agree: an oscillation may look slow at steps that are its multiples."""

    def central(h: float) -> float:
        return (delta(h) - delta(-h)) / (2 * h)

    far = abs(central(found.step) - found.value)
    for share in _BETWEEN:
        h = share * found.step
        if not abs(central(h) - found.value) <= 2 * far + 10 * (found.error + noise / h):
            return False
    return True


def noise_level(delta: Callable[[float], float], distance: float) -> float:
    """The standard error of one value of Δ, measured.

    Third and fourth differences over five points so close together that a smooth function has none (after
    Hamming; Moré and Wild 2011, "Estimating computational noise"). The points lie to one side of 0, as there may
    be a kink at 0 itself.

    Args:
        delta: Δ(t) = φ(t) - φ(0).
        distance: Of the points from each other.
    """
    d = distance
    a, b, c, e, f = (delta(k * d) for k in range(1, 6))
    one, other = (a - 3 * b + 3 * c - e) / math.sqrt(20), (b - 3 * c + 3 * e - f) / math.sqrt(20)
    level = math.hypot(one, other, (a - 4 * b + 6 * c - 4 * e + f) / math.sqrt(70)) / math.sqrt(3)
    return level if math.isfinite(level) else 0.0


def _agree(wide: Derivative, narrow: Derivative) -> bool:
    """Whether larger steps only make a derivative more exact, and do not look at another part of the function."""
    return abs(wide.value - narrow.value) <= 10 * (narrow.error + wide.error)


def _rank(found: Derivative) -> tuple[bool, float]:
    return (not found.settled, found.error)


def _noisy(found: Derivative | None) -> bool:
    return found is not None and found.settled and found.error <= 8 * found.floor


def _finite_start(delta: Callable[[float], float]) -> float | None:
    start = START
    for _ in range(_FINITE_ATTEMPTS):
        if math.isfinite(delta(start)) and math.isfinite(delta(-start)):
            return start
        start /= 8
    return None
