import json
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError, WrongGradientError
from nn_from_scratch.verify import Report, Verdict, check, check_names
from tests.functions import function

double = function(lambda x: 2 * x, lambda g, x: 2 * g)
half = function(lambda x: 2 * x, lambda g, x: g)


def x() -> Tensor:
    return torch.arange(6.0).reshape(2, 3) - 2.3


def test_a_right_subject_passes_every_check() -> None:
    report = check(double, x())
    assert report.passed, str(report)
    assert {result.check for result in report.results} == set(check_names())


def test_a_wrong_subject_is_wrong_and_raises_its_report() -> None:
    report = check(half, x())
    assert report.verdict is Verdict.WRONG
    with pytest.raises(WrongGradientError, match="WRONG: gradient of"):
        report.raise_if_wrong()


def test_two_runs_with_one_seed_give_the_same_results() -> None:
    def figures(report: Report) -> list[tuple[Any, ...]]:
        return [(r.check, r.tensor, r.verdict, r.margin, r.reason) for r in report.results]

    assert figures(check(torch.tanh, x(), seed=3)) == figures(check(torch.tanh, x(), seed=3))


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ("gradient", {"gradient"}),
        ("gradient, complex_step", {"gradient", "complex_step"}),
        (["gradient"], {"gradient"}),
    ],
)
def test_checks_are_selected_by_name(checks: Any, expected: set[str]) -> None:
    assert {result.check for result in check(double, x(), checks=checks).results} == expected


def test_checks_are_left_out_by_a_minus() -> None:
    found = {result.check for result in check(double, x(), checks="-gradient").results}
    assert found == set(check_names()) - {"gradient"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checks": "gradeint"}, "checks='gradeint' should be among"),
        ({"checks": ["gradient", "-gradient"]}, "selects no check"),
        ({"level": "slow"}, "level='slow' should be one of quick, full"),
        ({"time_limit": 0}, "time_limit=0 should be a positive number"),
        ({"factor": -1.0}, r"factor=-1.0 should be a positive"),
    ],
)
def test_arguments_that_make_no_sense_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        check(double, x(), **arguments)


def test_something_that_is_no_subject_is_refused_with_the_forms_that_are_known() -> None:
    with pytest.raises(SubjectError, match="these forms are known"):
        check(3, x())


def test_a_forward_that_raises_is_a_subject_error_that_quotes_it() -> None:
    def forward(x: Tensor) -> Tensor:
        raise ValueError("not today")

    with pytest.raises(SubjectError, match="not today"):
        check(forward, x())


def test_gradients_are_recorded_whatever_mode_the_caller_is_in() -> None:
    with torch.no_grad():
        assert check(double, x(), checks="gradient").passed


def test_the_report_knows_its_circumstances_and_is_json() -> None:
    report = check(half, x(), checks="gradient", seed=5, level="full")
    data = json.loads(report.to_json())
    assert (data["seed"], data["level"], data["verdict"]) == (5, "full", "wrong")
    assert {"python", "torch", "platform", "dtype", "device", "threads"} <= set(data["environment"])


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    package = import_module("nn_from_scratch.verify")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018
    assert {"check", "check_names", "explain"} <= set(dir(package))


def test_an_input_that_is_not_looked_at_is_named() -> None:
    a, b = x(), x().requires_grad_()
    report = check(torch.mul, a, b, checks="gradient", names=("a", "b"))
    assert any("no gradient is looked at for a: other inputs require grad" in note for note in report.notes)
    assert not any("looked at" in note for note in check(torch.mul, a, x(), checks="gradient").notes)


@pytest.mark.parametrize(("shape", "expected"), [((4, 3), 1), ((400, 300), 2)])
@pytest.mark.parametrize("form", ["tensor", "array"])
def test_small_inputs_are_verified_in_one_thread(form: str, shape: tuple[int, ...], expected: int) -> None:
    seen: set[int] = set()

    def square(x: torch.Tensor) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return x * x

    def forward(x: Any) -> Any:
        seen.add(torch.get_num_threads())
        return 2 * x

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        if form == "tensor":
            check(square, torch.ones(shape, dtype=torch.float64), checks="gradient_form")
        else:
            check((forward, lambda dy: 2 * dy), np.ones(shape), checks="gradient_form")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {expected}


def test_a_report_says_what_no_check_looks_at() -> None:
    report = check(torch.sin, torch.ones(3, dtype=torch.float64), checks="gradient")
    assert "not looked at by any check: torch.compile, autocast" in str(report)
    assert "torch.compile" in report.to_dict()["not_looked_at"]


def test_an_option_that_no_check_has_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"resolutoin is not an option of check \(did you mean resolution\?\)"):
        check(torch.sin, torch.ones(3, dtype=torch.float64), resolutoin=1e-6)
