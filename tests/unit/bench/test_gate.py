"""The gate, on simulated machines: it never accuses equal code, and never clears what is slower."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from nn_from_scratch.bench import Rule, SpeedVerdict, compare
from nn_from_scratch.bench.gate import Gate, MeasuringProcess
from nn_from_scratch.bench.verdicts import INCONCLUSIVE, INVALID, OK, REGRESSED, GateResult
from nn_from_scratch.errors import ArgumentError
from tests.unit.bench.simulation import Machine, SimulatedProcess, SimulatedSide

STEP = 3e-3


@pytest.fixture(autouse=True)
def _no_waiting_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is simulated here, so no test has to be alone on the machine."""
    for name in ("gate", "paired"):
        monkeypatch.setattr(f"nn_from_scratch.bench.{name}.alone", lambda **options: nullcontext())


def in_process(seed: int, factor: float, *, jitter: float = 0.05) -> SpeedVerdict:
    machine = Machine(seed, jitter=jitter)
    comparison = compare(
        machine.function(factor * STEP), machine.function(STEP), clock=machine.clock, seed=seed, time_cap=6.0
    )
    return comparison.judge(Rule(tolerance=0.05)).verdict


def between_sides(
    seed: int,
    head: dict[str, Any],
    base: dict[str, Any],
    *,
    machine: Machine | None = None,
    more: dict[str, int | None] | None = None,
    **options: Any,
) -> GateResult:
    machine = machine or Machine(seed, jitter=0.03)
    ours, theirs = (SimulatedSide(machine, seconds) for seconds in (head, base))
    if more is not None:
        ours.counts = {**ours.counts, **more}
    return Gate(ours, theirs, seed=seed, clock=machine.clock, **options).run(list(head), list(base))


@pytest.mark.parametrize("jitter", [0.01, 0.05, 0.2])
def test_equal_functions_are_never_accused(jitter: float) -> None:
    verdicts = Counter(in_process(seed, 1.0, jitter=jitter) for seed in range(100))
    assert verdicts[SpeedVerdict.REGRESSED] == 0
    assert verdicts[SpeedVerdict.OK] >= (20 if jitter > 0.1 else 95)  # and it is not by never deciding anything


@pytest.mark.parametrize("jitter", [0.01, 0.05, 0.2])
def test_ten_percent_slower_is_never_cleared(jitter: float) -> None:
    verdicts = Counter(in_process(seed, 1.1, jitter=jitter) for seed in range(60))
    assert verdicts[SpeedVerdict.OK] == 0
    assert verdicts[SpeedVerdict.REGRESSED] >= (20 if jitter > 0.1 else 55)


def test_equal_commits_are_never_accused() -> None:
    # 70 comparisons of three benchmarks each: 210 of equal code.
    seconds = {"a": STEP, "b": 20 * STEP, "c": STEP / 50}
    verdicts: Counter[SpeedVerdict] = Counter()
    for seed in range(70):
        verdicts.update(outcome.verdict for outcome in between_sides(seed, seconds, seconds).outcomes)
    assert verdicts[SpeedVerdict.REGRESSED] == 0
    assert verdicts[SpeedVerdict.OK] >= 200


def test_a_commit_that_is_ten_percent_slower_is_never_cleared() -> None:
    base, head = {"a": STEP, "b": STEP}, {"a": 1.1 * STEP, "b": STEP}
    for seed in range(40):
        outcomes = {outcome.name: outcome.verdict for outcome in between_sides(seed, head, base).outcomes}
        assert outcomes["a"] in (SpeedVerdict.REGRESSED, SpeedVerdict.INCONCLUSIVE)
        assert outcomes["b"] is not SpeedVerdict.REGRESSED


def test_processes_start_in_turns_and_there_are_six_of_each_side_at_least() -> None:
    machine, started = Machine(0, jitter=0.01), list[str]()
    head, base = (SimulatedSide(machine, {"a": STEP}, started=started, name=name) for name in "BA")
    result = Gate(head, base, clock=machine.clock).run(["a"], ["a"])
    assert [len(groups) for groups in result.outcomes[0].seconds.values()] == [6, 6, 6]
    # Two of the base, one of which is the control, and one of the head, which is first, last and between.
    rounds = ["".join(started[place : place + 3]) for place in range(0, 18, 3)]
    assert rounds == ["AAB", "BAA", "ABA", "ABA", "AAB", "BAA"]
    with pytest.raises(ArgumentError, match="processes is 5, but at least 6 a side are expected"):
        Gate(head, base, processes=5)


def test_what_is_undecided_gets_as_many_pairs_again_up_to_the_time_cap() -> None:
    noisy = {"a": 1.05 * STEP}
    results = [
        between_sides(3, noisy, {"a": STEP}, machine=Machine(3, jitter=0.3), time_cap=cap)
        for cap in (1.0, 120.0, 600.0)
    ]
    rounds = [len(result.outcomes[0].seconds["reference"]) for result in results]
    assert rounds[0] == 6 and rounds[0] < rounds[1] < rounds[2]
    assert {6 * 2**power for power in range(8)} >= set(rounds)


def test_an_undecided_benchmark_is_an_error_only_if_that_is_asked() -> None:
    result = between_sides(3, {"a": 1.05 * STEP}, {"a": STEP}, machine=Machine(3, jitter=0.3), time_cap=1.0)
    assert result.outcomes[0].verdict is SpeedVerdict.INCONCLUSIVE
    assert (result.status(), result.status(strict=True)) == (OK, INCONCLUSIVE)


def test_a_removed_benchmark_fails_unless_its_name_is_allowed() -> None:
    head, base = {"a": STEP}, {"a": STEP, "gone": STEP}
    result = between_sides(0, head, base)
    assert (result.removed, result.status()) == (("gone",), REGRESSED)
    assert "removed without permission: gone" in result.summary()
    result = between_sides(0, head, base, allow_removed=["gone"])
    assert (result.removed, result.allowed, result.status()) == ((), ("gone",), OK)


def test_a_renamed_benchmark_is_one_removed_and_one_added() -> None:
    result = between_sides(0, {"new": STEP, "a": STEP}, {"old": STEP, "a": STEP})
    assert (result.removed, result.added, result.status()) == (("old",), ("new",), REGRESSED)


def test_no_comparison_at_all_is_not_a_pass() -> None:
    result = between_sides(0, {"new": STEP}, {})
    assert (result.outcomes, result.status()) == ((), INVALID)
    assert result.summary() == "Nothing was compared, which is not a pass."
    assert between_sides(0, {"new": STEP}, {"old": STEP}, allow_removed=["old"]).status() == INVALID


def test_a_benchmark_that_runs_on_one_side_alone_is_no_pass() -> None:
    broken = between_sides(0, {"a": "TypeError: no", "b": STEP}, {"a": STEP, "b": STEP})
    assert broken.outcomes[0].verdict is SpeedVerdict.REGRESSED and "no longer runs" in broken.outcomes[0].reason
    assert broken.outcomes[1].verdict is SpeedVerdict.OK and broken.status() == REGRESSED
    older = between_sides(0, {"a": STEP, "b": STEP}, {"a": "AttributeError: no", "b": STEP})
    assert older.outcomes[0].verdict is SpeedVerdict.INVALID and older.status() == INVALID
    allowed = between_sides(0, {"a": STEP, "b": STEP}, {"a": "AttributeError: no", "b": STEP}, allow_removed=["a"])
    assert [outcome.name for outcome in allowed.outcomes] == ["b"]
    assert (allowed.allowed, allowed.status()) == (("a",), OK)


@pytest.mark.parametrize("grown", [{"operators": 8}, {"peak_bytes": 101}])
def test_an_exact_count_that_grows_is_a_regression_whatever_the_clock_says(grown: dict[str, int | None]) -> None:
    seconds = {"a": STEP}
    result = between_sides(0, seconds, seconds, more=grown)
    (name, value), outcome = next(iter(grown.items())), result.outcomes[0]
    assert outcome.verdict is SpeedVerdict.REGRESSED and result.status() == REGRESSED
    assert f"{name.replace('_', ' ')} {7 if name == 'operators' else 100} -> {value}" in outcome.reason
    assert between_sides(0, seconds, seconds, more=grown, allow_more=["a"]).status() == OK
    assert between_sides(0, seconds, seconds, more={name: 1}).status() == OK


def test_a_base_that_differs_from_itself_makes_the_comparison_invalid() -> None:
    class Biased(Gate):
        @contextmanager
        def _started(self, order: Sequence[str]) -> Iterator[dict[str, MeasuringProcess]]:
            with super()._started(order) as processes:
                control = processes["control"]
                assert isinstance(control, SimulatedProcess)
                control.factor *= 1.2
                yield processes

    machine = Machine(0)
    head, base = (SimulatedSide(machine, {"a": STEP}) for _ in range(2))
    result = Biased(head, base, clock=machine.clock).run(["a"], ["a"])
    assert result.outcomes[0].verdict is SpeedVerdict.INVALID and result.status() == INVALID
    assert "this environment cannot be trusted" in result.outcomes[0].reason
