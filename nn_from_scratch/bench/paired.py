"""Interleaved pairs within one process: the candidate, the reference, and the reference again as an A/A control."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nn_from_scratch.bench.intervals import Interval, bootstrap, log_ratios
from nn_from_scratch.bench.machine import Clock, alone, no_collection, seconds_per_call, synchronized_clock, warm_up
from nn_from_scratch.bench.verdicts import Rule, SpeedJudgment, SpeedVerdict, judge
from nn_from_scratch.errors import ArgumentError

#: Pairs that are taken before a verdict is given.
LEAST_PAIRS = 30
#: Seconds after which no more pairs are begun.
TIME_CAP = 20.0
# Seconds of one sample: enough calls are timed at once that the clock's own cost disappears.
_SAMPLE = 1e-3
# Seconds at least before the first pair.
_WARM_UP = 0.02

Function = Callable[[], object]


@dataclass
class PairedSamples:
    """Durations of two functions in interleaved samples, and of the reference once more in each.

    Attributes:
        candidate, reference: what is timed; called without arguments.
        seed: of the order within each pair.
        calls: in a sample, the same number for both; found while warming up.
        seconds: a call, of each sample, by side: "candidate", "reference" and "control".
    """

    candidate: Function
    reference: Function
    clock: Clock = synchronized_clock
    seed: int = 0
    calls: int = 0
    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {"candidate": [], "reference": [], "control": []}, init=False
    )

    def __post_init__(self) -> None:
        for name in ("candidate", "reference"):
            if not callable(getattr(self, name)):
                raise ArgumentError(f"{name} is {getattr(self, name)!r}, but a function without arguments is expected")
        self._order = random.Random(self.seed)
        self._functions = {"candidate": self.candidate, "reference": self.reference, "control": self.reference}

    @property
    def pairs(self) -> int:
        """The number of pairs so far."""
        return len(self.seconds["candidate"])

    def warm_up(self) -> None:
        """Call both until they have settled, and find out how many calls make a sample."""
        longest = max(warm_up(f, self.clock, seconds=_WARM_UP) for f in (self.reference, self.candidate))
        self.calls = max(1, math.ceil(_SAMPLE / longest)) if longest > 0 else 1000

    def extend(self, pairs: int) -> None:
        """Take this many further pairs, each with its control."""
        if not self.calls:
            self.warm_up()
        sides = list(self._functions)
        with no_collection():
            for _ in range(pairs):
                self._order.shuffle(sides)
                for side in sides:
                    self.seconds[side].append(seconds_per_call(self._functions[side], self.calls, self.clock))


@dataclass
class PairedComparison:
    """A candidate beside its reference: measured when something is asked, and no longer than the answer needs.

    Args:
        rule: alpha and floor; the tolerance comes with the question.
        pairs: to begin with.
        time_cap: seconds after which no more are begun.
        seed: of the bootstrap.
    """

    samples: PairedSamples
    rule: Rule = field(default_factory=Rule)
    pairs: int = LEAST_PAIRS
    time_cap: float = TIME_CAP
    seed: int = 0
    look: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.pairs < LEAST_PAIRS:
            raise ArgumentError(f"pairs is {self.pairs}, but at least {LEAST_PAIRS} are expected")
        if not 0 < self.time_cap < math.inf:
            raise ArgumentError(f"time_cap is {self.time_cap}, but a positive number of seconds is expected")

    @property
    def interval(self) -> Interval:
        """The interval of candidate / reference, from all pairs so far."""
        return self._interval("candidate")

    @property
    def control(self) -> Interval:
        """The interval of reference / reference, from all pairs so far."""
        return self._interval("control")

    @property
    def difference(self) -> float:
        """The difference of the medians, candidate less reference, in seconds a call."""
        seconds = self.samples.seconds
        return statistics.median(seconds["candidate"]) - statistics.median(seconds["reference"])

    def judge(self, rule: Rule) -> SpeedJudgment:
        """Reach a verdict; while it is inconclusive, the pairs are doubled up to the time cap."""
        return self._until_decided(lambda: judge(self.interval, self.control, difference=self.difference, rule=rule))

    def judge_faster(self, by: float) -> SpeedJudgment:
        """Whether the candidate takes at most 1 - by of the reference's time; the pairs are doubled as in `judge`.

        Raises:
            ArgumentError: `by` is not a share below 1.
        """
        if not 0 <= by < 1:
            raise ArgumentError(f"by is {by}, but a share from 0 to below 1 is expected, as in 0.1 for 10 % faster")
        return self._until_decided(lambda: _judge_faster(self.interval, self.control, by, self.rule))

    def to_json(self) -> dict[str, Any]:
        """All durations, ratio and intervals as JSON values."""
        interval, control = self.interval, self.control
        return {
            "calls": self.samples.calls,
            "seconds": {side: list(values) for side, values in self.samples.seconds.items()},
            "ratio": interval.ratio,
            "interval": list(interval.ratios),
            "control": control.to_json(),
        }

    def _interval(self, side: str) -> Interval:
        self._begin()
        seconds = self.samples.seconds
        pairs = [[ratio] for ratio in log_ratios(seconds[side], seconds["reference"])]
        return bootstrap(pairs, alpha=self.rule.alpha_of_look(self.look), seed=self.seed)

    def _begin(self) -> None:
        if not self.samples.pairs:
            with alone():
                self.samples.extend(self.pairs)

    def _until_decided(self, judgment: Callable[[], SpeedJudgment]) -> SpeedJudgment:
        clock = self.samples.clock
        began = clock()
        while True:
            found = judgment()
            seconds = self.samples.seconds.values()
            cost = self.samples.calls * sum(map(sum, seconds))  # of as many pairs again
            if found.verdict is not SpeedVerdict.INCONCLUSIVE or clock() - began + cost > self.time_cap:
                return found
            with alone():
                self.samples.extend(self.samples.pairs)
            self.look += 1


def _judge_faster(interval: Interval, control: Interval, by: float, rule: Rule) -> SpeedJudgment:
    limit = math.log1p(-by)
    checked = judge(control, control, difference=0.0, rule=rule)
    if checked.verdict is SpeedVerdict.INVALID:
        return checked
    if interval.upper <= limit:
        return SpeedJudgment(SpeedVerdict.OK, f"Faster by at least {by:.1%}: {interval} times the reference.")
    if interval.lower > limit:
        return SpeedJudgment(SpeedVerdict.REGRESSED, f"Not faster by {by:.1%}: {interval} times the reference.")
    return SpeedJudgment(
        SpeedVerdict.INCONCLUSIVE, f"The noise hides whether it is faster by {by:.1%}: {interval} times."
    )


def compare(
    candidate: Function,
    reference: Function,
    *,
    rule: Rule | None = None,
    pairs: int = LEAST_PAIRS,
    time_cap: float = TIME_CAP,
    clock: Clock = synchronized_clock,
    seed: int = 0,
) -> PairedComparison:
    """Prepare to compare two functions of this process; nothing is measured before something is asked.

    Args:
        rule: alpha and floor.
        pairs: to begin with, at least 30.
        time_cap: seconds after which no more are begun.
        clock: gives seconds; by default one that waits for the GPU.
        seed: of the order of the pairs and of the bootstrap.

    Raises:
        ArgumentError: an argument makes no sense.
    """
    samples = PairedSamples(candidate, reference, clock=clock, seed=seed)
    return PairedComparison(samples, rule=rule or Rule(), pairs=pairs, time_cap=time_cap, seed=seed)
