"""The fixture `ab` of a test: two functions compared by interleaved pairs, with assertions."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import pytest

from nn_from_scratch.bench.paired import LEAST_PAIRS, TIME_CAP, Function, PairedComparison, PairedSamples
from nn_from_scratch.bench.verdicts import FLOOR, Rule, SpeedJudgment, SpeedVerdict
from nn_from_scratch.errors import NNFromScratchError

# Of the candidate in pytest-benchmark's own table, for a test that does not run its fixture itself.
_ROUNDS = 5


class InconclusiveWarning(UserWarning):
    """The noise hides whether a candidate is slower than it may be."""


@dataclass(eq=False)
class Duel:
    """A candidate and a reference in a test; the pairs are taken when something is asserted.

    Args:
        strict: whether an undecided assertion fails.
        measuring: False where benchmarks are switched off; then both have run once, and an assertion skips the test.
        record: called with what was measured, after each assertion.
    """

    comparison: PairedComparison
    _: KW_ONLY
    strict: bool
    measuring: bool
    record: Callable[[dict[str, Any]], None]

    def assert_not_slower(self, tol: float | None = None) -> None:
        """Fail if the candidate is slower than the reference by more than this share.

        Undecided at the time cap, it warns, or under `--nnfs-bench-strict` fails; a reference that differs from itself
        by as much fails as well, because nothing that is measured then can be trusted.

        Args:
            tol: 0.05 for 5 %; by default that, and 3 % where a GPU is in use.
        """
        __tracebackhide__ = True
        rule = self.comparison.rule if tol is None else _refused_as_failure(lambda: self._rule(tol))
        self._conclude(lambda: self.comparison.judge(rule), undecided_fails=self.strict)

    def assert_faster(self, by: float = 0.0) -> None:
        """Fail unless the candidate is shown to take at most 1 - by of the reference's time.

        Args:
            by: 0.1 for at least 10 % faster.
        """
        __tracebackhide__ = True
        self._conclude(lambda: self.comparison.judge_faster(by), undecided_fails=True)

    def measure(self) -> None:
        """Take the pairs, store and print them, without a claim, and so without a share of the session's error rate.

        Where benchmarks are switched off, it does nothing.
        """
        if self.measuring:
            self.comparison.rule = Rule()
            self.record(self.comparison.to_json())
            sys.stdout.write(f"{self.comparison.interval} times the reference; by itself {self.comparison.control}\n")

    def _rule(self, tolerance: float) -> Rule:
        return Rule(tolerance=tolerance, floor=self.comparison.rule.floor, alpha=self.comparison.rule.alpha)

    def _conclude(self, judged: Callable[[], SpeedJudgment], *, undecided_fails: bool) -> None:
        __tracebackhide__ = True
        if not self.measuring:
            pytest.skip("ran once; benchmarks are switched off (--benchmark-disable), so nothing was measured")
        found = _refused_as_failure(judged)
        self.record({**self.comparison.to_json(), "verdict": str(found.verdict), "reason": found.reason})
        sentence = f"{found.verdict}: {found.reason} ({self.comparison.samples.pairs} pairs)"
        if found.verdict is SpeedVerdict.INCONCLUSIVE and not undecided_fails:
            warnings.warn(sentence, InconclusiveWarning, stacklevel=3)
        elif found.verdict is not SpeedVerdict.OK:
            pytest.fail(sentence, pytrace=False)


@dataclass(eq=False)
class AB:
    """The value of the fixture `ab`: call it with a candidate and a reference.

    Args:
        rule: the part of the error rate that this test may spend.
        strict: whether an undecided `assert_not_slower` fails.
        measuring: whether benchmarks are switched on.
        find_benchmark: gives the fixture of pytest-benchmark, which gets the pairs into its `extra_info`; None
            without it.
        run_benchmark: whether that fixture still has to be run.
    """

    rule: Rule
    _: KW_ONLY
    strict: bool
    measuring: bool
    find_benchmark: Callable[[], Any]
    run_benchmark: bool

    def __post_init__(self) -> None:
        self._benchmark: Any = None

    def __call__(
        self,
        candidate: Function,
        reference: Function,
        *,
        pairs: int = LEAST_PAIRS,
        time_cap: float = TIME_CAP,
        seed: int = 0,
        floor: float = FLOOR,
    ) -> Duel:
        """Compare a candidate with a reference.

        Args:
            candidate, reference: called without arguments, many times.
            pairs: to begin with, at least 30; they are doubled while nothing is decided.
            time_cap: seconds after which no more are begun.
            seed: of the order of the pairs and of the bootstrap.
            floor: seconds a call below which a difference does not count.
        """
        __tracebackhide__ = True

        def made() -> PairedComparison:
            rule = Rule(tolerance=self.rule.tolerance, floor=floor, alpha=self.rule.alpha)
            return PairedComparison(PairedSamples(candidate, reference, seed=seed), rule, pairs, time_cap, seed)

        comparison = _refused_as_failure(made)
        self._benchmark = self.find_benchmark()
        if not self.measuring:
            reference()
        if self._benchmark is not None and self.run_benchmark:
            self._benchmark.pedantic(candidate, rounds=_ROUNDS, warmup_rounds=1)
            self.run_benchmark = False  # pytest-benchmark takes one measurement a test
        elif not self.measuring:
            candidate()
        return Duel(comparison, strict=self.strict, measuring=self.measuring, record=self._record)

    def _record(self, values: dict[str, Any]) -> None:
        if self._benchmark is not None:
            self._benchmark.extra_info.setdefault("ab", []).append(values)


def _refused_as_failure(make: Callable[[], Any]) -> Any:
    __tracebackhide__ = True
    try:
        return make()
    except NNFromScratchError as error:
        sentence = f"ab: {type(error).__name__}: {error}"
    return pytest.fail(sentence, pytrace=False)
