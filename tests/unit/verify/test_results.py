import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from nn_from_scratch.errors import ArgumentError, WrongGradientError
from nn_from_scratch.verify.comparison import Mismatch
from nn_from_scratch.verify.reports import Report
from nn_from_scratch.verify.results import CheckResult, Verdict


def report(*results: CheckResult, **grades: Any) -> Report:
    return Report(
        subject="Layer",
        form="autograd",
        results=results,
        environment={"torch": "2"},
        seed=7,
        level="quick",
        seconds=0.5,
        notes=("gradients overwrite",),
        **grades,
    )


CORRECT = CheckResult.correct("gradient", "x", margin=0.25)
UNDECIDED = CheckResult.undecided("gradient", "noise", "w")
FRAGILE = CheckResult.fragile("input_layouts", "the gradient differs for a strided x", "x", snippet="check(x)\n")
LIMIT = CheckResult.limit("batch_consistency", "at N = 0 the backward raises")
SKIPPED = CheckResult.not_applicable("copies", "it has no state")
WRONG = CheckResult.wrong(
    "gradient",
    "b",
    mismatch=Mismatch(index=(1,), analytic=math.inf, numeric=1.0, allowed=1e-9, count=1, total=2),
    diagnosis="The gradient of b has the wrong sign.",
    margin=math.inf,
    snippet="check(b)\n",
)


@pytest.mark.parametrize(
    "make", [CheckResult.undecided, CheckResult.not_applicable, CheckResult.fragile, CheckResult.limit]
)
def test_what_is_neither_correct_nor_wrong_needs_a_reason(make: Callable[..., CheckResult]) -> None:
    with pytest.raises(ArgumentError, match=r"reason='' of the check 'gradient' should say why"):
        make("gradient", "")


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ((CORRECT,), Verdict.CORRECT),
        ((CORRECT, SKIPPED), Verdict.CORRECT),
        ((CORRECT, UNDECIDED), Verdict.UNDECIDED),
        ((CORRECT, UNDECIDED, WRONG), Verdict.WRONG),
        ((CORRECT, UNDECIDED, FRAGILE), Verdict.FRAGILE),
        ((CORRECT, FRAGILE, WRONG), Verdict.WRONG),
        ((CORRECT, LIMIT), Verdict.CORRECT),
        ((LIMIT,), Verdict.UNDECIDED),
        ((SKIPPED,), Verdict.UNDECIDED),
        ((), Verdict.UNDECIDED),
    ],
)
def test_the_worst_result_decides(results: tuple[CheckResult, ...], verdict: Verdict) -> None:
    found = report(*results)
    assert found.verdict is verdict
    assert found.passed is (verdict is Verdict.CORRECT)


def test_what_is_fragile_fails_unless_it_is_only_to_be_reported() -> None:
    found = report(CORRECT, FRAGILE)
    assert (found.failed, found.passed) == (True, False)
    with pytest.raises(WrongGradientError, match="FRAGILE: input_layouts of x"):
        found.raise_if_wrong()
    reported = report(CORRECT, FRAGILE, fragile="report")
    assert reported.raise_if_wrong().verdict is Verdict.FRAGILE
    assert (reported.failed, reported.passed) == (False, True)
    beside = report(CORRECT, FRAGILE, UNDECIDED, fragile="report")
    assert (beside.failed, beside.passed) == (False, False), "undecided is no pass, whatever is reported beside it"
    wrong = report(CORRECT, FRAGILE, WRONG, fragile="report")
    assert (wrong.failed, wrong.passed) == (True, False)


def test_a_limit_fails_only_where_limits_count() -> None:
    assert report(CORRECT, LIMIT).passed
    strict = report(CORRECT, LIMIT, strict=True)
    assert (strict.verdict, strict.failed, strict.passed) == (Verdict.LIMIT, True, False)
    with pytest.raises(WrongGradientError, match="limit: batch_consistency: at N = 0"):
        strict.raise_if_wrong()
    assert report(CORRECT, strict=True).passed


def test_only_wrong_raises() -> None:
    assert report(UNDECIDED).raise_if_wrong().verdict is Verdict.UNDECIDED
    with pytest.raises(WrongGradientError, match="the wrong sign"):
        report(WRONG).raise_if_wrong()


def test_the_text_says_everything_that_matters() -> None:
    text = str(report(CORRECT, FRAGILE, UNDECIDED, LIMIT, SKIPPED, WRONG))
    for part in (
        "Layer (autograd): WRONG",
        "1 correct, 1 wrong, 1 fragile, 1 undecided, 1 limit, 1 not applicable",
        "FRAGILE: input_layouts of x",
        "the gradient differs for a strided x",
        "limit: batch_consistency: at N = 0 the backward raises",
        "WRONG: gradient of b",
        "worst at [1]: found inf, expected 1, allowed ±1e-09",
        "diagnosis: The gradient of b has the wrong sign.",
        "UNDECIDED: gradient of w",
        "not applicable: copies: it has no state",
        "note: gradients overwrite",
        "seed 7, level quick; torch 2",
        "    check(b)",
    ):
        assert part in text


def wrong(check: str, tensor: str, reason: str | None = None) -> CheckResult:
    return WRONG.with_fields(check=check, tensor=tensor, reason=reason, snippet=None)


def test_a_fault_that_several_checks_see_is_one_finding() -> None:
    fragile = CheckResult.fragile("special_values", "at zeros", "x", mismatch=WRONG.mismatch)
    found = report(fragile, wrong("gradient", "x"), wrong("complex_step", "x"), wrong("gradient", "y")).findings
    assert [(finding.label, finding.also_at) for finding in found] == [
        ("gradient of x", "complex_step of x, special_values of x"),
        ("gradient of y", ""),
    ]
    assert "    also at: special_values of x\n" in str(report(fragile, wrong("gradient", "x")))
    apart = report(fragile, CheckResult.correct("gradient", "x")).findings
    assert [finding.label for finding in apart] == ["special_values of x"], "the gradient itself is right"


def test_what_says_the_same_of_several_tensors_is_one_finding() -> None:
    strided = [wrong("no_aliasing", name, "the gradient lies in a buffer") for name in ("x", "w")]
    other = wrong("no_aliasing", "b", "the gradient is the input")
    assert [finding.label for finding in report(*strided, other).findings] == [
        "no_aliasing of x, no_aliasing of w",
        "no_aliasing of b",
    ]
    unknown = [CheckResult.undecided(check, "the gradient of x holds NaN") for check in ("copies", "accumulation")]
    assert [finding.label for finding in report(*unknown).findings] == ["copies, accumulation"]
    assert [finding["label"] for finding in report(*unknown).to_dict()["findings"]] == ["copies, accumulation"]


def test_how_a_backward_counts_samples_is_one_finding() -> None:
    of_samples = [
        CheckResult.fragile(check, check, "x", mismatch=WRONG.mismatch)
        for check in ("batch_consistency", "other_shapes")
    ]
    (found,) = report(*of_samples).findings
    assert (found.label, found.also_at) == ("batch_consistency of x", "other_shapes of x")


def test_limits_of_one_check_stand_in_one_line() -> None:
    refused = CheckResult.limit("batch_consistency", "with one sample it raises")
    text = str(report(CORRECT, LIMIT, refused))
    assert "  limit: batch_consistency: at N = 0 the backward raises; with one sample it raises\n" in text


def test_json_holds_the_whole_report_and_is_strict() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads(report(CORRECT, UNDECIDED, SKIPPED, WRONG).to_json(), parse_constant=refuse)
    assert data["verdict"] == "wrong"
    counts = {"correct": 1, "wrong": 1, "fragile": 0, "undecided": 1, "limit": 0, "not_applicable": 1}
    assert data["counts"] == counts
    assert (data["passed"], data["failed"], data["fragile"], data["strict"]) == (False, True, "fail", False)
    assert data["results"][3]["mismatch"]["analytic"] == "inf"
    assert data["results"][3]["mismatch"]["share"] == 0.5
    assert data["worst_margin"] == "inf"
