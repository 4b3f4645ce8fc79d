"""From an interval to a verdict, by four fixed rules; and the verdicts of a whole comparison, with its exit status."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from nn_from_scratch.bench.intervals import Interval
from nn_from_scratch.errors import ArgumentError

#: What a candidate may be slower by before that is a regression: a share, by the type of device.
TOLERANCE = {"cpu": 0.05, "cuda": 0.03}
#: Seconds a call; a smaller difference does not matter.
FLOOR = 1e-6
#: Exit statuses.
OK, REGRESSED, INCONCLUSIVE, INVALID = 0, 1, 2, 3


class SpeedVerdict(Enum):
    """The verdict on a candidate beside its reference."""

    OK = "OK"
    REGRESSED = "REGRESSED"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The parameters of a verdict.

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
class SpeedJudgment:
    """A verdict and, in one sentence, why."""

    verdict: SpeedVerdict
    reason: str


def judge(interval: Interval, control: Interval, *, difference: float, rule: Rule) -> SpeedJudgment:
    """Reach a verdict.

    Args:
        interval: of the log ratios of candidate and reference.
        control: the same for the reference beside itself, in the same run.
        difference: of the medians, candidate less reference, in seconds a call.
        rule: what is tolerated.
    """
    limit = math.log1p(rule.tolerance)
    allowed = f"{rule.tolerance:.1%}"
    if control.lower > limit or control.upper < -limit:
        return SpeedJudgment(
            SpeedVerdict.INVALID,
            f"The reference beside itself is off by more than {allowed} ({control}): this environment cannot be "
            "trusted with the comparison.",
        )
    if interval.lower > limit:
        if difference > rule.floor:
            return SpeedJudgment(
                SpeedVerdict.REGRESSED, f"Slower by more than {allowed}: {interval} times the reference."
            )
        return SpeedJudgment(
            SpeedVerdict.INCONCLUSIVE,
            f"Slower by more than {allowed} ({interval}), but by {difference:.3g} s a call, which is not above the "
            f"floor of {rule.floor:.3g} s: time a larger case.",
        )
    if interval.upper <= limit:
        faster = "Faster" if interval.upper < 0 else f"Not slower by more than {allowed}"
        return SpeedJudgment(SpeedVerdict.OK, f"{faster}: {interval} times the reference.")
    return SpeedJudgment(
        SpeedVerdict.INCONCLUSIVE, f"The noise hides whether it is slower by more than {allowed}: {interval} times."
    )


def calibrated_tolerance(controls: Sequence[Interval]) -> float:
    """The tolerance that this machine needs: half as much again as the largest difference of equal code.

    Args:
        controls: intervals of equal code beside itself; at least one.
    """
    return 1.5 * math.expm1(max(max(abs(control.lower), abs(control.upper)) for control in controls))


@dataclass(frozen=True, kw_only=True)
class BenchmarkOutcome:
    """The outcome of one benchmark.

    Attributes:
        verdict: on time and counts together.
        interval: of head by base; None where nothing could be measured.
        control: of base by itself; None where nothing could be measured.
        seconds: a call, by side ("candidate", "reference", "control"), one list for each process.
        counts: exact ones, by side ("candidate", "reference").
    """

    name: str
    verdict: SpeedVerdict
    reason: str
    interval: Interval | None = None
    control: Interval | None = None
    seconds: Mapping[str, list[list[float]]] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; intervals as ratios: middle, lower, upper."""
        intervals = {"interval": self.interval, "control": self.control}
        return {
            **asdict(self),
            "verdict": str(self.verdict),
            **{name: None if interval is None else interval.to_json() for name, interval in intervals.items()},
        }


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The outcomes of all benchmarks.

    Attributes:
        outcomes: of those that both sides have.
        removed: names of the base that the head lacks without permission.
        allowed: such names that `--allow-removed` exempts.
        added: names that only the head has.
        head, base: the commits.
        tolerance: by which a benchmark may be slower.
    """

    outcomes: tuple[BenchmarkOutcome, ...]
    removed: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    head: str = ""
    base: str = ""
    tolerance: float = 0.0

    def status(self, *, strict: bool = False) -> int:
        """The exit status; `strict` makes an inconclusive benchmark an error."""
        verdicts = {outcome.verdict for outcome in self.outcomes}
        if SpeedVerdict.REGRESSED in verdicts or self.removed:
            return REGRESSED
        if SpeedVerdict.INVALID in verdicts or not verdicts:
            return INVALID
        return INCONCLUSIVE if strict and SpeedVerdict.INCONCLUSIVE in verdicts else OK

    def summary(self, *, strict: bool = False) -> str:
        """One sentence that says why the status is what it is."""
        counts = Counter(outcome.verdict for outcome in self.outcomes)
        numbers = ", ".join(f"{counts[verdict]} {verdict}" for verdict in SpeedVerdict if counts[verdict])
        removed = f"; removed without permission: {', '.join(self.removed)}" if self.removed else ""
        if not self.outcomes:
            return f"Nothing was compared, which is not a pass{removed}."
        words = {OK: "Passed", REGRESSED: "Failed", INCONCLUSIVE: "Undecided", INVALID: "Invalid"}
        return f"{words[self.status(strict=strict)]}: {numbers}{removed}."

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"what": "comparison", **asdict(self), "outcomes": [outcome.to_json() for outcome in self.outcomes]}
