"""The verifier reaches its figures; `python -m tests.bench.verifier_figures` prints them in full."""

from __future__ import annotations

import warnings

import pytest

from nn_from_scratch.verify import Verdict
from tests.bench import verifier_figures as figures
from tests.bench.verifier_faults import blind_spots, diagnoses
from tests.right_functions import CASES

pytestmark = pytest.mark.bench


@pytest.mark.parametrize("fault", ["every entry", "one entry"])
@pytest.mark.parametrize("name", ["linear", "conv2d", "softmax", "layer_norm", "gelu"])
def test_a_relative_error_of_1e_8_is_found_with_certainty(name: str, fault: str) -> None:
    function, inputs = figures.OPERATIONS[name]
    for seed in range(3):
        faulty = figures.with_fault(function, figures.FAULTS[fault], 1e-8)
        assert figures.detects(faulty, inputs(10 * seed), seed)
        right = figures.with_fault(function, figures.FAULTS[fault], 0.0)
        assert not figures.detects(right, inputs(10 * seed), seed)


def test_no_right_function_is_reported_wrong_and_few_are_undecided() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = figures.false_alarms(600)
    assert found.counts["wrong"] == 0, found.not_correct
    assert found.undecided_share <= 0.005, found.not_correct


def test_at_least_sixty_functions_take_part() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.slow
def test_deep_relu_networks_are_decided() -> None:
    for name, results in figures.networks():
        assert all(result.verdict is Verdict.CORRECT for result in results), name


@pytest.mark.bench
def test_the_gradient_alone_is_a_hundred_times_faster_than_gradcheck() -> None:
    found = figures.speed(8, slow=True)
    assert found.slow is not None
    assert found.slow > 100 * found.ours
    # Equal within the spread of a busy machine; the figures are printed by the script.
    assert found.ours < 1.5 * found.fast


@pytest.mark.bench
def test_time_grows_with_the_forward_only() -> None:
    small, large = figures.speed(32, slow=False, repeats=5), figures.speed(128, slow=False, repeats=5)
    assert large.ours / small.ours < 3 * max(large.forward / small.forward, large.entries / small.entries)


def test_every_blind_spot_of_gradcheck_is_found() -> None:
    for name, check, found, passed in blind_spots():
        assert found and passed, f"{name}: {check}"


def test_nine_in_ten_planted_faults_are_named_and_none_wrongly() -> None:
    d = diagnoses()
    assert d.total >= 30 and d.kinds >= 15
    assert not d.wrong and not d.missed
    assert d.right >= 0.9 * d.total
