"""Layers as in courses, given to `check` in one line: none that is right is accused, none that is wrong passes."""

from __future__ import annotations

import pytest

from nn_from_scratch.verify import Verdict, check
from tests.unit.verify.course_layers.cases import RIGHT, WRONG, Case, T
from tests.unit.verify.course_layers.torch_layers import InPlaceReLU


@pytest.mark.parametrize("case", RIGHT, ids=lambda case: case.name)
def test_a_right_layer_is_correct_and_every_tensor_of_it_is_looked_at(case: Case) -> None:
    report = case.check()
    assert report.verdict is Verdict.CORRECT, report
    looked = {result.tensor for result in report.results if result.check == "gradient"}
    assert looked == set(case.tensors.split())


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.name)
def test_a_wrong_layer_is_wrong_in_the_tensor_that_is_wrong_and_by_the_faults_name(case: Case) -> None:
    report = case.check("gradient")
    assert report.verdict is Verdict.WRONG, report
    wrong = {result.tensor: result for result in report.results if result.verdict is Verdict.WRONG}
    assert set(wrong) == set(case.tensors.split())
    for result in wrong.values():
        assert case.says in (result.diagnosis or ""), report


def test_a_right_value_in_the_cotangents_memory_is_wrong() -> None:
    report = check(InPlaceReLU, T, checks="gradient,unmodified")
    assert {result.check for result in report.results if result.verdict is Verdict.WRONG} == {"unmodified"}


def test_there_are_forty_of_each() -> None:
    assert len({case.name for case in RIGHT}) == len(RIGHT) >= 40
    assert len({case.name for case in WRONG}) == len(WRONG) >= 40
