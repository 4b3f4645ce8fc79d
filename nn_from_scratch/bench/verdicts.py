"""From an interval to a verdict, by four fixed rules."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum

from nn_from_scratch.bench.intervals import Interval
from nn_from_scratch.errors import ArgumentError

__all__ = ["FLOOR", "TOLERANCE", "Judgement", "Rule", "Verdict", "calibrated_tolerance", "judge"]

#: What a candidate may be slower by before that is a regression: a share, by the kind of device.
TOLERANCE = {"cpu": 0.05, "cuda": 0.03}
#: A difference below this many seconds a call is none that anybody notices.
FLOOR = 1e-6


class Verdict(Enum):
    """What is known of a candidate beside its reference."""

    OK = "OK"
    REGRESSED = "REGRESSED"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True)
class Rule:
    """By what a verdict is reached.

    Attributes:
        tolerance: share by which the candidate may be slower.
        floor: seconds a call by which it may be slower, whatever the share.
        alpha: probability that an interval misses, over all looks at one benchmark.

    Raises:
        ArgumentError: a number makes no sense.
    """

    tolerance: float = TOLERANCE["cpu"]
    floor: float = FLOOR
    alpha: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < math.inf:
            raise ArgumentError(f"tolerance is {self.tolerance}, but a share such as 0.05 is expected")
        if not 0 <= self.floor < math.inf:
            raise ArgumentError(f"floor is {self.floor}, but a number of seconds of at least 0 is expected")
        if not 0 < self.alpha < 1:
            raise ArgumentError(f"alpha is {self.alpha}, but a probability between 0 and 1 is expected")

    def shared_by(self, benchmarks: int) -> Rule:
        """The rule for each of several benchmarks, so that all together err with probability alpha."""
        return replace(self, alpha=self.alpha / max(benchmarks, 1))

    def alpha_of_look(self, look: int) -> float:
        """What the look of this number (from 0) may spend: half of what is left, so any number of looks may come."""
        return math.ldexp(self.alpha, -look - 1)


@dataclass(frozen=True)
class Judgement:
    """A verdict and, in one sentence, why."""

    verdict: Verdict
    reason: str


def judge(interval: Interval, control: Interval | None, *, difference: float, rule: Rule) -> Judgement:
    """Reach a verdict.

    Args:
        interval: of the log ratios of candidate and reference.
        control: the same for the reference beside itself, in the same run; None where there is none.
        difference: of the medians, candidate less reference, in seconds a call.
        rule: what is tolerated.
    """
    limit = math.log1p(rule.tolerance)
    allowed = f"{rule.tolerance:.1%}"
    if control is not None and (control.lower > limit or control.upper < -limit):
        return Judgement(
            Verdict.INVALID,
            f"The reference beside itself is off by more than {allowed} ({control}): this environment cannot be "
            "trusted with the comparison.",
        )
    if interval.lower > limit:
        if difference > rule.floor:
            return Judgement(Verdict.REGRESSED, f"Slower by more than {allowed}: {interval} times the reference.")
        return Judgement(
            Verdict.INCONCLUSIVE,
            f"Slower by more than {allowed} ({interval}), but by {difference:.3g} s a call, which is not above the "
            f"floor of {rule.floor:.3g} s: time a larger case.",
        )
    if interval.upper <= limit:
        faster = "Faster" if interval.upper < 0 else f"Not slower by more than {allowed}"
        return Judgement(Verdict.OK, f"{faster}: {interval} times the reference.")
    return Judgement(
        Verdict.INCONCLUSIVE, f"The noise hides whether it is slower by more than {allowed}: {interval} times."
    )


def calibrated_tolerance(controls: list[Interval], *, least: float = TOLERANCE["cpu"]) -> float:
    """The tolerance that this machine needs: what equal code was seen to differ by, and half as much again.

    Args:
        controls: intervals of equal code beside itself.
        least: the answer for a machine without noise.
    """
    widest = max((max(abs(c.lower), abs(c.upper)) for c in controls), default=0.0)
    return max(least, 1.5 * math.expm1(widest))
