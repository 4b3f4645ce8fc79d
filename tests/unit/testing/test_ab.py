"""The fixture `ab`, used from outside through pytester."""

from __future__ import annotations

import json
import sys

import pytest

# A clock that goes only when a function asks it to, so that no test here depends on real time.
CLOCK = """
import pytest
from nn_from_scratch.testing.ab import PairedSamples

class Clock:
    now = 0.0

def read():
    return Clock.now

def work(seconds):
    def run():
        Clock.now += seconds
    return run

@pytest.fixture(autouse=True)
def _no_real_time(monkeypatch):
    original = PairedSamples.__init__
    def made(self, candidate, reference, **options):
        original(self, candidate, reference, **{**options, "clock": read})
    monkeypatch.setattr(PairedSamples, "__init__", made)
"""


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a worker of xdist pytest-benchmark writes no file, and the sessions here are of their own."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def run(pytester: pytest.Pytester, test: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(CLOCK + test)
    pytester.makeini("[pytest]\nnnfs_benchmark_timer = true\n")
    return pytester.runpytest_inprocess("-p", "no:randomly", *arguments)


def test_equal_passes_and_slower_fails_with_the_ratio_and_its_interval(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_equal(ab):
    ab(work(0.01), work(0.01)).assert_not_slower(tol=0.05)

def test_slower(ab):
    ab(work(0.011), work(0.01)).assert_not_slower()
""",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["REGRESSED: Slower by more than 5.0%: 1.100 ?1.100, 1.100? times the reference. (30 pairs)"]
    )


def test_faster_must_be_shown(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_is(ab):
    ab(work(0.008), work(0.01)).assert_faster(by=0.1)

def test_is_not_by_that_much(ab):
    ab(work(0.0095), work(0.01)).assert_faster(by=0.1)
""",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["REGRESSED: Not faster by 10.0%: 0.950 ?0.950, 0.950? times the reference.*"])


UNDECIDED = """
def alternating(values):
    turns = __import__("itertools").cycle(values)
    def run():
        Clock.now += next(turns)
    return run

def test_noisy(ab):
    ab(alternating([0.01, 0.013, 0.02]), work(0.0124), time_cap=0.5).assert_not_slower()
"""


def test_undecided_warns_and_fails_under_strict(pytester: pytest.Pytester) -> None:
    result = run(pytester, UNDECIDED, "-Walways")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*InconclusiveWarning: INCONCLUSIVE: The noise hides whether*"])
    run(pytester, UNDECIDED, "--nnfs-bench-strict").assert_outcomes(failed=1)


def test_a_reference_that_differs_from_itself_fails_whatever_the_candidate_does(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_untrustworthy(ab):
    duel = ab(work(0.01), work(0.01))
    duel.comparison.samples.extend(30)
    duel.comparison.samples.seconds["control"] = [0.012] * 30
    duel.assert_not_slower()
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["INVALID: The reference beside itself is off by more than 5.0%*"])


def test_wrong_arguments_are_one_sentence(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_number(ab):
    ab(3, work(0.01))

def test_pairs(ab):
    ab(work(0.01), work(0.01), pairs=5)

def test_by(ab):
    ab(work(0.01), work(0.01)).assert_faster(by=10)
""",
    )
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "ab: ArgumentError: candidate is 3, but a function without arguments is expected",
            "ab: ArgumentError: pairs is 5, but at least 30 are expected",
            "ab: ArgumentError: by is 10, but a share from 0 to below 1*",
        ]
    )


def test_pairs_and_machine_reach_the_json_of_pytest_benchmark(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_equal(ab):
    ab(work(0.01), work(0.01)).assert_not_slower()
""",
        "--benchmark-json=found.json",
    )
    result.assert_outcomes(passed=1)
    found = json.loads((pytester.path / "found.json").read_text())
    (pairs,) = found["benchmarks"][0]["extra_info"]["ab"]
    assert [len(pairs["seconds"][side]) for side in ("candidate", "reference", "control")] == [30, 30, 30]
    assert pairs["verdict"] == "OK" and pairs["ratio"] == pytest.approx(1.0)
    machine = found["machine_info"]["nn_from_scratch"]
    assert machine["torch"] == sys.modules["torch"].__version__
    assert {"processor", "cores", "threads", "GPU", "precision of float32 products"} <= machine.keys()
    assert found["benchmarks"][0]["options"]["timer"] == "synchronized_clock"


def test_measuring_makes_no_claim_and_spends_no_share_of_the_error_rate(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.mark.parametrize("number", range(2))
def test_slower(ab, number):
    duel = ab(work(0.012), work(0.01))
    duel.measure()
    assert duel.comparison.rule.alpha == 0.01
""",
        "--benchmark-json=found.json",
        "-rP",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["1.200 ?1.200, 1.200? times the reference; by itself 1.000 ?1.000, 1.000?"])
    found = json.loads((pytester.path / "found.json").read_text())
    (pairs,) = found["benchmarks"][0]["extra_info"]["ab"]
    assert pairs["ratio"] == pytest.approx(1.2) and "verdict" not in pairs


def test_switched_off_both_run_once_and_the_test_is_skipped(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
calls = []

def test_equal(ab):
    ab(lambda: calls.append("c"), lambda: calls.append("r")).assert_not_slower()

def test_measuring(ab):
    ab(lambda: calls.append("c"), lambda: calls.append("r")).measure()

def test_after():
    assert sorted(calls) == ["c", "c", "r", "r"]
""",
        "--benchmark-disable",
        "-rs",
    )
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*benchmarks are switched off (--benchmark-disable)*"])


def test_several_tests_share_the_error_rate(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.mark.parametrize("number", range(4))
def test_share(ab, number):
    assert ab(work(0.01), work(0.01)).comparison.rule.alpha == pytest.approx(0.01 / 4)
""",
    )
    result.assert_outcomes(passed=4)


def test_it_works_without_pytest_benchmark(pytester: pytest.Pytester) -> None:
    result = run(
        pytester, "def test_equal(ab):\n    ab(work(0.01), work(0.01)).assert_not_slower()\n", "-p", "no:benchmark"
    )
    result.assert_outcomes(passed=1)
