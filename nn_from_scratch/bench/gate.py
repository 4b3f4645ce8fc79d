"""The gate: are the benchmarks of the head slower than those of the base, or costlier by an exact count?

Each round starts one process of the head and two of the base, in the order A B, B A, A B, ... of the two sides, and
takes pairs of samples between them in random order while the others wait; the second base process is the A/A control
of the same run. What is undecided gets as many rounds again, up to the time cap.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nn_from_scratch.bench.intervals import bootstrap, log_ratios
from nn_from_scratch.bench.machine import alone
from nn_from_scratch.bench.verdicts import BenchmarkOutcome, GateResult, Rule, SpeedJudgment, SpeedVerdict, judge
from nn_from_scratch.errors import ArgumentError, SubjectError

#: Processes of each side, before a verdict is given.
LEAST_PROCESSES = 6
# Pairs of samples in each round: six rounds make thirty.
_PAIRS = 5
_SIDES = ("candidate", "reference", "control")


class MeasuringProcess(Protocol):
    """A process that does jobs; see `nn_from_scratch.bench.server.MeasurementServer`."""

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """Give a job and wait for the answer."""


class Measurable(Protocol):
    """A side that starts processes; see `nn_from_scratch.bench.processes.Side`."""

    def process(self) -> AbstractContextManager[MeasuringProcess]:
        """Context manager that starts a process and ends it."""


@dataclass
class _Samples:
    """The measurements of one benchmark: one list of seconds for each process."""

    calls: int = 0
    seconds: dict[str, list[list[float]]] = field(default_factory=lambda: {side: [] for side in _SIDES})
    counts: dict[str, dict[str, int | None]] = field(default_factory=dict)
    failure: BenchmarkOutcome | None = None


@dataclass
class Gate:
    """Compares two sides.

    Args:
        head, base: which start processes.
        rule: tolerance, floor, and alpha over all benchmarks together.
        processes: of each side to begin with, at least 6.
        time_cap: seconds after which no more are begun.
        allow_removed: names of benchmarks that may be missing in the head, or not run on the base.
        allow_more: names of benchmarks whose counts may grow.
        seed: of the order of the pairs and of the bootstrap.
        on_round: called with what is about to be done, in words.
    """

    head: Measurable
    base: Measurable
    rule: Rule = field(default_factory=Rule)
    processes: int = LEAST_PROCESSES
    time_cap: float = 600.0
    allow_removed: Collection[str] = ()
    allow_more: Collection[str] = ()
    seed: int = 0
    on_round: Callable[[str], None] = lambda words: None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.processes < LEAST_PROCESSES:
            raise ArgumentError(f"processes is {self.processes}, but at least {LEAST_PROCESSES} a side are expected")
        if not self.time_cap > 0:
            raise ArgumentError(f"time_cap is {self.time_cap}, but a positive number of seconds is expected")
        self._order = random.Random(self.seed)

    def run(self, names: Collection[str], names_of_base: Collection[str]) -> GateResult:
        """Compare the benchmarks that both sides have.

        Args:
            names: of the head.
            names_of_base: of the base, by its own file.
        """
        missing = [name for name in names_of_base if name not in names]
        shared = [name for name in names if name in names_of_base]
        records = {name: _Samples() for name in shared}
        rule = self.rule.shared_by(len(shared))
        with alone(on_wait=self.on_round):
            outcomes = self._measure(records, rule)
        allowed = [name for name in (*missing, *shared) if name in self.allow_removed]
        not_run = {name for name in shared if outcomes[name].interval is None and name in self.allow_removed}
        return GateResult(
            outcomes=tuple(outcomes[name] for name in shared if name not in not_run),
            removed=tuple(name for name in missing if name not in self.allow_removed),
            allowed=tuple(name for name in allowed if name in missing or name in not_run),
            added=tuple(name for name in names if name not in names_of_base),
            tolerance=self.rule.tolerance,
        )

    def _measure(self, records: Mapping[str, _Samples], rule: Rule) -> dict[str, BenchmarkOutcome]:
        began = self.clock()
        outcomes: dict[str, BenchmarkOutcome] = {}
        rounds, look, pending = 0, 0, list(records)
        while pending:
            started, wanted = self.clock(), rounds or self.processes
            for number in range(wanted):
                self.on_round(f"round {number + 1} of {wanted}: {len(pending)} benchmarks")
                self._round({name: records[name] for name in pending}, rounds + number)
            rounds += wanted
            outcomes |= {name: self._outcome(name, records[name], rule, look) for name in pending}
            pending = [
                name
                for name in pending
                if outcomes[name].verdict is SpeedVerdict.INCONCLUSIVE and records[name].failure is None
            ]
            cost = (self.clock() - started) / wanted * rounds  # of as many rounds again
            if self.clock() - began + cost > self.time_cap:
                break
            look += 1
        return outcomes

    def _round(self, records: Mapping[str, _Samples], number: int) -> None:
        """Start a process of each side and of the control, and take pairs of every benchmark."""
        # The control's place rotates as well, so that no side is always the first or the last one started.
        order = list(_SIDES[:2]) if number % 2 else list(reversed(_SIDES[:2]))
        order.insert(number % 3, "control")
        with self._started(order) as processes:
            for name, record in records.items():
                if record.failure is None:
                    self._pairs(name, record, processes)

    @contextmanager
    def _started(self, order: Sequence[str]) -> Iterator[dict[str, MeasuringProcess]]:
        with ExitStack() as stack:
            yield {
                side: stack.enter_context((self.head if side == "candidate" else self.base).process()) for side in order
            }

    def _pairs(self, name: str, record: _Samples, processes: Mapping[str, MeasuringProcess]) -> None:
        taken: dict[str, list[float]] = {side: [] for side in _SIDES}
        side = _SIDES[0]
        try:
            for side, process in processes.items():
                calls = int(process.ask("prepare", name=name)["calls"])
                record.calls = record.calls or calls
                if side != "control" and side not in record.counts:
                    record.counts[side] = process.ask("count")["counts"]
            sides = list(_SIDES)
            for _ in range(_PAIRS):
                self._order.shuffle(sides)
                for side in sides:
                    taken[side].append(float(processes[side].ask("time", calls=record.calls)["seconds"]))
        except SubjectError as error:
            record.failure = _failure(name, side, error)
            return
        for side, seconds in taken.items():
            record.seconds[side].append(seconds)

    def _outcome(self, name: str, record: _Samples, rule: Rule, look: int) -> BenchmarkOutcome:
        if record.failure is not None:
            return record.failure
        seconds, alpha = record.seconds, rule.alpha_of_look(look)
        interval, control = (
            bootstrap(
                [log_ratios(c, r) for c, r in zip(seconds[side], seconds["reference"], strict=True)],
                alpha=alpha,
                seed=self.seed,
            )
            for side in ("candidate", "control")
        )
        ours, theirs = (
            statistics.median(second for group in seconds[side] for second in group)
            for side in ("candidate", "reference")
        )
        judgment = judge(interval, control, difference=ours - theirs, rule=rule)
        judgment = _costlier(name, record.counts, judgment, self.allow_more)
        return BenchmarkOutcome(
            name=name,
            verdict=judgment.verdict,
            reason=judgment.reason,
            interval=interval,
            control=control,
            seconds={side: [*groups] for side, groups in seconds.items()},
            counts=record.counts,
        )


def _costlier(
    name: str, counts: Mapping[str, Mapping[str, int | None]], judgment: SpeedJudgment, allow_more: Collection[str]
) -> SpeedJudgment:
    """The judgment on time, turned into a regression where an exact count has grown."""
    ours, theirs = counts.get("candidate", {}), counts.get("reference", {})
    grown = []
    for what, before in theirs.items():
        now = ours.get(what)
        if now is not None and before is not None and now > before:
            grown.append(f"{what.replace('_', ' ')} {before} -> {now}")
    if not grown:
        return judgment
    if name in allow_more:
        return replace(judgment, reason=f"{judgment.reason} Allowed to grow: {', '.join(grown)}.")
    return SpeedJudgment(SpeedVerdict.REGRESSED, f"Costs more: {', '.join(grown)}. {judgment.reason}")


def _failure(name: str, side: str, error: SubjectError) -> BenchmarkOutcome:
    if side == "candidate":
        return BenchmarkOutcome(name=name, verdict=SpeedVerdict.REGRESSED, reason=f"It no longer runs: {error}.")
    reason = f"It cannot be compared, because the base does not run it: {error}. Allow that by --allow-removed."
    return BenchmarkOutcome(name=name, verdict=SpeedVerdict.INVALID, reason=reason)
