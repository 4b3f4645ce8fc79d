import json
import math
from collections.abc import Callable

import pytest

from nn_from_scratch.errors import ArgumentError, WrongGradientError
from nn_from_scratch.verify.comparison import Mismatch
from nn_from_scratch.verify.results import CheckResult, Report, Verdict


def report(*results: CheckResult) -> Report:
    return Report(
        subject="Layer",
        form="autograd",
        results=results,
        environment={"torch": "2"},
        seed=7,
        level="quick",
        seconds=0.5,
        notes=("gradients overwrite",),
    )


CORRECT = CheckResult.correct("gradient", "x", margin=0.25)
UNDECIDED = CheckResult.undecided("gradient", "noise", "w")
SKIPPED = CheckResult.not_applicable("copies", "it has no state")
WRONG = CheckResult.wrong(
    "gradient",
    "b",
    mismatch=Mismatch(index=(1,), analytic=math.inf, numeric=1.0, allowed=1e-9, count=1, total=2),
    diagnosis="The gradient of b has the wrong sign.",
    margin=math.inf,
    snippet="check(b)\n",
)


@pytest.mark.parametrize("make", [CheckResult.undecided, CheckResult.not_applicable])
def test_undecided_and_not_applicable_need_a_reason(make: Callable[..., CheckResult]) -> None:
    with pytest.raises(ArgumentError, match=r"reason='' of the check 'gradient' should say why"):
        make("gradient", "")


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ((CORRECT,), Verdict.CORRECT),
        ((CORRECT, SKIPPED), Verdict.CORRECT),
        ((CORRECT, UNDECIDED), Verdict.UNDECIDED),
        ((CORRECT, UNDECIDED, WRONG), Verdict.WRONG),
        ((SKIPPED,), Verdict.UNDECIDED),
        ((), Verdict.UNDECIDED),
    ],
)
def test_the_worst_result_decides(results: tuple[CheckResult, ...], verdict: Verdict) -> None:
    found = report(*results)
    assert found.verdict is verdict
    assert found.passed is (verdict is Verdict.CORRECT)


def test_only_wrong_raises() -> None:
    assert report(UNDECIDED).raise_if_wrong().verdict is Verdict.UNDECIDED
    with pytest.raises(WrongGradientError, match="the wrong sign"):
        report(WRONG).raise_if_wrong()


def test_the_text_says_everything_that_matters() -> None:
    text = str(report(CORRECT, UNDECIDED, SKIPPED, WRONG))
    for part in (
        "Layer (autograd): WRONG",
        "1 correct, 1 wrong, 1 undecided, 1 not applicable",
        "WRONG: gradient of b",
        "worst at [1]: analytic inf, numeric 1, allowed ±1e-09",
        "diagnosis: The gradient of b has the wrong sign.",
        "UNDECIDED: gradient of w",
        "not applicable: copies: it has no state",
        "note: gradients overwrite",
        "seed 7, level quick; torch 2",
        "    check(b)",
    ):
        assert part in text


def test_json_holds_the_whole_report_and_is_strict() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads(report(CORRECT, UNDECIDED, SKIPPED, WRONG).to_json(), parse_constant=refuse)
    assert data["verdict"] == "wrong"
    assert data["counts"] == {"correct": 1, "wrong": 1, "undecided": 1, "not_applicable": 1}
    assert data["results"][3]["mismatch"]["analytic"] == "inf"
    assert data["results"][3]["mismatch"]["share"] == 0.5
    assert data["worst_margin"] == "inf"
