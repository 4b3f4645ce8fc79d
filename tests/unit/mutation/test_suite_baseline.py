"""What is known of the tests: which statements they reach, and which results they leave true."""

from __future__ import annotations

from pathlib import Path

import pytest

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.mutation.mutant import Mutant, MutantOutcome, MutantResult
from nn_from_scratch.mutation.result_faults import Observation
from nn_from_scratch.mutation.suite_baseline import Observations, SuiteBaseline, TestRun, lines_in, text_of_lines

MUTANT = Mutant(id="m:f/sign/0", function="m:f", kind="source", operator="sign", diff="", statement=(3, 4))


def baseline(**lines: str) -> SuiteBaseline:
    tests = {name: TestRun("unit", len(name), {"m:f": text}, "a") for name, text in lines.items()}
    return SuiteBaseline("settings", {}, tests)


@pytest.mark.parametrize(
    ("lines", "text"), [([], ""), ([4], "4"), ([2, 1, 3], "1-3"), ([9, 1, 2, 5, 6, 7], "1-2,5-7,9")]
)
def test_lines_are_kept_as_ranges(lines: list[int], text: str) -> None:
    assert text_of_lines(lines) == text and lines_in(text) == set(lines)


def test_only_tests_that_run_the_statement_are_tried_quick_ones_first() -> None:
    found = baseline(above="0-2", below="5-9", second="1-4", all="0-9", unknown="")
    assert found.tests_of(MUTANT, "unit") == ["all", "second", "unknown"]
    assert found.tests_of(MUTANT, "parity") == []
    result = Mutant(id="m:f/result: zero", function="m:f", kind="result", operator="zero", diff="")
    assert found.tests_of(result, "unit") == ["all", "above", "below", "second", "unknown"]


def test_tests_of_a_changed_file_are_new_and_what_is_gone_is_forgotten() -> None:
    found = baseline(kept="3", changed="3", gone="3")
    assert found.new_among({"kept": "a", "changed": "b", "added": "b"}) == ["changed", "added"]
    assert set(found.tests) == {"kept", "changed"}


def test_a_result_holds_while_the_test_that_killed_is_as_it_was() -> None:
    found = baseline(first="3", second="3")
    killed = MutantResult("m:f/sign/0", "unit", MutantOutcome.KILLED, test="first")
    survived = MutantResult("m:f/sign/0", "unit", MutantOutcome.SURVIVED)
    assert found.holds(killed) and found.holds(survived)
    found.begin_round()
    found.add(Observations(tests={"first": TestRun("unit", 1.0, {"m:f": "3"}, "b")}))
    assert not found.holds(killed) and found.holds(survived)
    assert found.tests_of(MUTANT, "unit", since=survived.round + 1) == ["first"]
    del found.tests["first"]
    assert not found.holds(killed)


def test_it_comes_back_from_its_folder_and_only_for_the_same_sources(tmp_path: Path) -> None:
    found = SuiteBaseline(
        "settings", {"m:f": "digest"}, baseline(first="3").tests, {"m:f": {"": Observation((2,), True)}}
    )
    found.save(tmp_path)
    for other in (SuiteBaseline("settings", {"m:f": "another"}), SuiteBaseline("others", {})):
        with pytest.raises(ArgumentError, match="holds a run over other sources"):
            SuiteBaseline.load(tmp_path, like=other)
    assert SuiteBaseline.load(tmp_path, like=SuiteBaseline("settings", {})) == found
