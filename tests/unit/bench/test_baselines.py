"""A stored baseline: measured alone, held against what is measured later, and refused where that means nothing."""

from __future__ import annotations

import json
import math
from collections import Counter
from contextlib import nullcontext

import pytest

from nn_from_scratch.bench import Rule, Verdict
from nn_from_scratch.bench.baselines import Baseline, compare_with_baseline, measure
from nn_from_scratch.bench.outcomes import INVALID, OK, REGRESSED, Result
from nn_from_scratch.errors import BaselineError
from tests.unit.bench.simulation import Machine, SimulatedSide

STEP = 3e-3


@pytest.fixture(autouse=True)
def _no_waiting_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is simulated here, so nobody has to be alone on the machine."""
    monkeypatch.setattr("nn_from_scratch.bench.baselines.alone", lambda **options: nullcontext())


class QuietMachine(Machine):
    """Without drift, which a stored baseline cannot tell from a change of the code."""

    def work(self, seconds: float) -> None:
        self.now += seconds * math.exp(self.draw.gauss(0, self.jitter))


def measured(seed: int, seconds: dict[str, float], **counts: int) -> Baseline:
    side = SimulatedSide(QuietMachine(seed, jitter=0.03), dict(seconds))
    side.counts = {**side.counts, **counts}
    return measure(side, [*seconds], commit="abc")


def compared(now: Baseline, then: Baseline, *allowed: str) -> Result:
    return compare_with_baseline(now, then, rule=Rule(tolerance=0.05), allow_removed=allowed)


def test_equal_code_is_not_accused_and_ten_percent_is_not_cleared() -> None:
    equal: Counter[Verdict] = Counter()
    slower: Counter[Verdict] = Counter()
    for seed in range(30):
        then = measured(seed, {"a": STEP})
        equal.update(o.verdict for o in compared(measured(1000 + seed, {"a": STEP}), then).outcomes)
        slower.update(o.verdict for o in compared(measured(2000 + seed, {"a": 1.1 * STEP}), then).outcomes)
    assert equal[Verdict.REGRESSED] == 0 and equal[Verdict.OK] >= 25
    assert slower[Verdict.OK] == 0 and slower[Verdict.REGRESSED] >= 15


def test_removed_renamed_and_nothing_at_all() -> None:
    then = measured(0, {"a": STEP, "old": STEP})
    renamed = compared(measured(1, {"a": STEP, "new": STEP}), then)
    assert (renamed.removed, renamed.added, renamed.status()) == (("old",), ("new",), REGRESSED)
    allowed = compared(measured(1, {"a": STEP, "new": STEP}), then, "old")
    assert (allowed.removed, allowed.allowed, allowed.status()) == ((), ("old",), OK)
    nothing = compared(measured(1, {"new": STEP}), then, "a", "old")
    assert (nothing.outcomes, nothing.status()) == ((), INVALID)


def test_a_count_that_grows_is_a_regression() -> None:
    result = compared(measured(1, {"a": STEP}, operators=8), measured(0, {"a": STEP}))
    assert result.status() == REGRESSED and "operators 7 -> 8" in result.outcomes[0].reason


def test_another_machine_or_state_is_refused() -> None:
    now, then = measured(1, {"a": STEP}), measured(0, {"a": STEP})
    for machine in ({"processor": "Abacus 3"}, {**now.machine, "threads": "2"}):
        foreign = Baseline(machine=machine, seconds=then.seconds, counts=then.counts)
        with pytest.raises(BaselineError, match="the baseline comes from another machine: .* measure one here"):
            compared(now, foreign)


def test_a_baseline_survives_json_and_other_results_are_refused() -> None:
    found = measured(0, {"a": STEP})
    assert Baseline.from_json(json.loads(json.dumps(found.to_json()))) == found
    with pytest.raises(BaselineError, match="the baseline holds a comparison, but what `bench run` stores"):
        Baseline.from_json({"what": "comparison"})
