"""Measuring one side alone, and holding it against what was stored on the same machine.

A stored baseline cannot be interleaved with what it is compared with, so it sees the machine's drift as well; where
the base is still to be had as a commit, `gate` is the better judge.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nn_from_scratch.bench.clock import alone
from nn_from_scratch.bench.gate import LEAST_PROCESSES, Measurable, costlier
from nn_from_scratch.bench.intervals import bootstrap_of_two
from nn_from_scratch.bench.machine import differences
from nn_from_scratch.bench.outcomes import Outcome, Result
from nn_from_scratch.bench.verdicts import Rule, judge
from nn_from_scratch.errors import BaselineError

__all__ = ["Baseline", "compare_with_baseline", "measure"]

_SAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What was measured of one side.

    Attributes:
        machine: where; see `nn_from_scratch.bench.machine`.
        commit: of what.
        seconds: a call, by benchmark, one list for each process.
        counts: exact ones, by benchmark.
    """

    machine: Mapping[str, str]
    commit: str = ""
    seconds: Mapping[str, list[list[float]]] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "what": "baseline",
            "machine": dict(self.machine),
            "commit": self.commit,
            "seconds": {name: [list(group) for group in groups] for name, groups in self.seconds.items()},
            "counts": {name: dict(counts) for name, counts in self.counts.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Baseline:
        """The inverse of `to_json`.

        Raises:
            BaselineError: something else was stored.
        """
        if values.get("what") != "baseline":
            raise BaselineError(
                f"the baseline holds a {values.get('what', 'nothing')}, but what `bench run` stores is expected"
            )
        return cls(**{name: values[name] for name in ("machine", "commit", "seconds", "counts")})


def measure(
    side: Measurable,
    names: Sequence[str],
    *,
    commit: str = "",
    processes: int = LEAST_PROCESSES,
    on_round: Callable[[str], None] = lambda words: None,
) -> Baseline:
    """Measure these benchmarks, each in several processes.

    Args:
        side: which starts the processes.
        names: of its benchmarks.
        commit: for the record.
        processes: how many, one after the other.
        on_round: called with what is about to be done, in words.

    Raises:
        SubjectError: a benchmark raises.
    """
    seconds: dict[str, list[list[float]]] = {name: [] for name in names}
    counts: dict[str, Mapping[str, int | None]] = {}
    machine: Mapping[str, str] = {}
    with alone(on_wait=on_round):
        for number in range(processes):
            on_round(f"process {number + 1} of {processes}: {len(names)} benchmarks")
            with side.process() as process:
                for name in names:
                    calls = process.ask("prepare", name=name)["calls"]
                    counts[name] = process.ask("count")["counts"]
                    taken = [float(process.ask("time", calls=calls)["seconds"]) for _ in range(_SAMPLES)]
                    seconds[name].append(taken)
                machine = process.ask("machine")["machine"]
    return Baseline(machine=machine, commit=commit, seconds=seconds, counts=counts)


def compare_with_baseline(
    found: Baseline,
    baseline: Baseline,
    *,
    rule: Rule,
    allow_removed: Collection[str] = (),
    allow_more: Collection[str] = (),
    seed: int = 0,
) -> Result:
    """Hold what was measured now against what was stored.

    Args:
        found: now.
        baseline: then.
        rule: tolerance, floor, and alpha over all benchmarks together.
        allow_removed: names of benchmarks that may be missing now.
        allow_more: names of benchmarks whose counts may grow.
        seed: of the bootstrap.

    Raises:
        BaselineError: it was stored on another machine, or in another state of this one.
    """
    other = differences(found.machine, baseline.machine)
    if other:
        raise BaselineError(f"the baseline comes from another machine: {'; '.join(other)}; measure one here")
    shared = [name for name in found.seconds if name in baseline.seconds]
    missing = [name for name in baseline.seconds if name not in found.seconds]
    shares = rule.shared_by(len(shared))
    outcomes = []
    for name in shared:
        # The median of each process: samples of one process are no independent ones.
        now, then = ([statistics.median(group) for group in side.seconds[name]] for side in (found, baseline))
        interval = bootstrap_of_two(now, then, alpha=shares.alpha, seed=seed)
        difference = statistics.median(now) - statistics.median(then)
        counts = {"candidate": found.counts.get(name, {}), "reference": baseline.counts.get(name, {})}
        judgement = judge(interval, None, difference=difference, rule=shares)
        judgement = costlier(name, counts, judgement, allow_more=allow_more)
        seconds = {"candidate": found.seconds[name], "reference": baseline.seconds[name]}
        outcomes.append(
            Outcome(
                name=name,
                verdict=judgement.verdict,
                reason=judgement.reason,
                interval=interval,
                seconds=seconds,
                counts=counts,
            )
        )
    return Result(
        outcomes=tuple(outcomes),
        removed=tuple(name for name in missing if name not in allow_removed),
        allowed=tuple(name for name in missing if name in allow_removed),
        added=tuple(name for name in found.seconds if name not in baseline.seconds),
        head=found.commit,
        base=baseline.commit,
        tolerance=rule.tolerance,
    )
