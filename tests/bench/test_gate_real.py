"""The gate's verdicts by the clock of this machine, whatever else it does: the one place where time decides a test."""

from __future__ import annotations

from collections import Counter

import pytest

from nn_from_scratch.bench import Rule, SpeedVerdict, compare
from tests.bench.gate import BENCHMARKS

pytestmark = pytest.mark.bench

_RULE = Rule(tolerance=0.05)


def work(size: int) -> None:
    total = 0
    for number in range(size):
        total += number


def verdict(seed: int, size: int) -> SpeedVerdict:
    comparison = compare(lambda: work(size), lambda: work(20_000), time_cap=0.5, seed=seed)
    return comparison.judge(_RULE).verdict


def test_equal_functions_are_not_accused() -> None:
    # Other programs may disturb one comparison from its begin to its end, but hardly two in a row.
    twice = [seed for seed in range(4) if all(verdict(s, 20_000) is SpeedVerdict.REGRESSED for s in (seed, seed + 100))]
    assert twice == []


def test_ten_percent_more_work_is_not_cleared() -> None:
    verdicts = Counter(verdict(seed, 22_000) for seed in range(3))
    assert verdicts[SpeedVerdict.OK] == 0, verdicts


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_of_the_gate_runs_again_and_again(name: str) -> None:
    function = BENCHMARKS[name]()
    for _ in range(3):
        function()
