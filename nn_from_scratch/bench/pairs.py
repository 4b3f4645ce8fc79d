"""Interleaved pairs within one process: the candidate, the reference, and the reference again as an A/A control."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nn_from_scratch.bench.clock import Clock, alone, no_collection, synchronised_clock
from nn_from_scratch.bench.intervals import Interval, bootstrap, log_ratios
from nn_from_scratch.bench.verdicts import Judgement, Rule, Verdict, judge
from nn_from_scratch.errors import ArgumentError

__all__ = ["LEAST_PAIRS", "TIME_CAP", "Comparison", "Measurement", "compare"]

#: Pairs that are taken before anything is said.
LEAST_PAIRS = 30
#: Seconds after which no more pairs are begun.
TIME_CAP = 20.0
# Seconds of one sample: enough calls are timed at once that the clock's own cost disappears.
_SAMPLE = 1e-3
# Before the first pair: calls at least, and seconds at least.
_WARM_UP_CALLS, _WARM_UP_SECONDS = 3, 0.02

Function = Callable[[], object]


@dataclass
class Measurement:
    """Durations of two functions in interleaved samples, and of the reference once more in each.

    Attributes:
        candidate, reference: what is timed; called without arguments.
        clock: gives seconds.
        seed: of the order within each pair.
        calls: in a sample, the same number for both; found while warming up.
        seconds: a call, of each sample, by side: "candidate", "reference" and "control".
    """

    candidate: Function
    reference: Function
    clock: Clock = synchronised_clock
    seed: int = 0
    calls: int = 0
    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {"candidate": [], "reference": [], "control": []}, init=False
    )

    def __post_init__(self) -> None:
        for name in ("candidate", "reference"):
            if not callable(getattr(self, name)):
                raise ArgumentError(
                    f"{name} is a {type(getattr(self, name)).__name__}, but something to call without arguments is "
                    "expected, such as a lambda"
                )
        self._order = random.Random(self.seed)
        self._functions = {"candidate": self.candidate, "reference": self.reference, "control": self.reference}

    @property
    def pairs(self) -> int:
        """How many there are."""
        return len(self.seconds["candidate"])

    def warm_up(self) -> None:
        """Call both until they have settled, and find out how many calls make a sample."""
        longest = 0.0
        for function in (self.reference, self.candidate):
            began, done = self.clock(), 0
            while done < _WARM_UP_CALLS or self.clock() - began < _WARM_UP_SECONDS:
                function()
                done += 1
            start = self.clock()
            function()
            longest = max(longest, self.clock() - start)
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
                    self.seconds[side].append(self._sample(self._functions[side]))

    def _sample(self, function: Function) -> float:
        start = self.clock()
        for _ in range(self.calls):
            function()
        return (self.clock() - start) / self.calls


@dataclass
class Comparison:
    """A candidate beside its reference: measured when something is asked, and no longer than the answer needs.

    Args:
        measurement: where the pairs come from.
        rule: alpha and floor; the tolerance comes with the question.
        pairs: to begin with.
        time_cap: seconds after which no more are begun.
        seed: of the bootstrap.
    """

    measurement: Measurement
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
        """Of candidate by reference, from all pairs so far."""
        return self._interval("candidate")

    @property
    def control(self) -> Interval:
        """Of the reference by itself, from all pairs so far."""
        return self._interval("control")

    @property
    def difference(self) -> float:
        """Of the medians, candidate less reference, in seconds a call."""
        seconds = self.measurement.seconds
        return statistics.median(seconds["candidate"]) - statistics.median(seconds["reference"])

    def judge(self, rule: Rule) -> Judgement:
        """Reach a verdict; while it is inconclusive, the pairs are doubled up to the time cap."""
        return self._until_decided(lambda: judge(self.interval, self.control, difference=self.difference, rule=rule))

    def judge_faster(self, by: float) -> Judgement:
        """Whether the candidate takes at most 1 - by of the reference's time; doubled in the same way.

        Raises:
            ArgumentError: `by` is no share below 1.
        """
        if not 0 <= by < 1:
            raise ArgumentError(f"by is {by}, but a share from 0 to below 1 is expected, as in 0.1 for 10 % faster")
        return self._until_decided(lambda: _judge_faster(self.interval, self.control, by, self.rule))

    def to_json(self) -> dict[str, Any]:
        """All durations, and what they say, as JSON values."""
        interval, control = self.interval, self.control
        return {
            "calls": self.measurement.calls,
            "seconds": {side: list(values) for side, values in self.measurement.seconds.items()},
            "ratio": interval.ratio,
            "interval": list(interval.ratios),
            "control": [control.ratio, *control.ratios],
        }

    def _interval(self, side: str) -> Interval:
        self._begin()
        seconds = self.measurement.seconds
        pairs = [[ratio] for ratio in log_ratios(seconds[side], seconds["reference"])]
        return bootstrap(pairs, alpha=self.rule.alpha_of_look(self.look), seed=self.seed)

    def _begin(self) -> None:
        if not self.measurement.pairs:
            with alone():
                self.measurement.extend(self.pairs)

    def _until_decided(self, judgement: Callable[[], Judgement]) -> Judgement:
        clock = self.measurement.clock
        began = clock()
        while True:
            found = judgement()
            seconds = self.measurement.seconds.values()
            cost = self.measurement.calls * sum(map(sum, seconds))  # of as many pairs again
            if found.verdict is not Verdict.INCONCLUSIVE or clock() - began + cost > self.time_cap:
                return found
            with alone():
                self.measurement.extend(self.measurement.pairs)
            self.look += 1


def _judge_faster(interval: Interval, control: Interval, by: float, rule: Rule) -> Judgement:
    limit = math.log1p(-by)
    checked = judge(control, control, difference=0.0, rule=rule)
    if checked.verdict is Verdict.INVALID:
        return checked
    if interval.upper <= limit:
        return Judgement(Verdict.OK, f"Faster by at least {by:.1%}: {interval} times the reference.")
    if interval.lower > limit:
        return Judgement(Verdict.REGRESSED, f"Not faster by {by:.1%}: {interval} times the reference.")
    return Judgement(Verdict.INCONCLUSIVE, f"The noise hides whether it is faster by {by:.1%}: {interval} times.")


def compare(
    candidate: Function,
    reference: Function,
    *,
    rule: Rule | None = None,
    pairs: int = LEAST_PAIRS,
    time_cap: float = TIME_CAP,
    clock: Clock = synchronised_clock,
    seed: int = 0,
) -> Comparison:
    """Make ready to compare two functions of this process; nothing is measured before something is asked.

    Args:
        candidate, reference: called without arguments.
        rule: alpha and floor.
        pairs: to begin with, at least 30.
        time_cap: seconds after which no more are begun.
        clock: gives seconds; by default one that waits for the GPU.
        seed: of the order of the pairs and of the bootstrap.

    Raises:
        ArgumentError: an argument makes no sense.
    """
    measurement = Measurement(candidate, reference, clock=clock, seed=seed)
    return Comparison(measurement, rule=rule or Rule(), pairs=pairs, time_cap=time_cap, seed=seed)
