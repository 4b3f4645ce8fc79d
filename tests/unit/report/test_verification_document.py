"""Verifications as documents: what is told at length, in which order, and what does each line again."""

from __future__ import annotations

from typing import Any

from nn_from_scratch.report.document import Code, Table
from nn_from_scratch.report.rendering import to_markdown
from nn_from_scratch.report.verification_document import summarize_verifications, verification_document


def result(verdict: str, **changes: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("also_at", "reason", "mismatch", "diagnosis", "margin", "resolution", "snippet"))
    return {"check": "gradient", "tensor": "x", "verdict": verdict, **empty, **changes}


def entry(name: str, *results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    verdicts = [found["verdict"] for found in results]
    verdict = next(v for v in ("wrong", "fragile", "undecided", "correct") if v in verdicts)
    counts = {v: verdicts.count(v) for v in ("correct", "wrong", "fragile", "undecided", "limit", "not_applicable")}
    return {
        **{"subject": name, "verdict": verdict, "counts": counts, "worst_margin": None, "seed": 3, "level": "quick"},
        **{"passed": verdict == "correct", "failed": verdict in ("wrong", "fragile")},
        **{"seconds": 0.5, "results": list(results)},
        "findings": [
            {**found, "label": f"{found['check']} of {found['tensor']}" if found["tensor"] else found["check"]}
            for found in results
            if found["verdict"] in ("wrong", "fragile", "undecided")
        ],
        **changes,
    }


def markdown(*entries: dict[str, Any], commands: tuple[str, ...] = ("verify it",)) -> str:
    return to_markdown(verification_document(summarize_verifications(entries), commands=commands))


def test_what_no_check_looks_at_is_said_once() -> None:
    entries = (entry(name, result("correct"), not_looked_at="second derivatives") for name in "ab")
    assert markdown(*entries).count("Not looked at by any check: second derivatives.") == 1


def test_nothing_verified_is_no_pass() -> None:
    text = markdown()
    assert "undecided**: Nothing was verified." in text


def test_findings_are_sentences_with_their_numbers() -> None:
    mismatch = {"index": [2, 1], "analytic": 0.20383692788849936, "numeric": -0.5, "allowed": 7.97e-13}
    mismatch |= {"sides": ["analytic", "numeric"]}
    text = markdown(
        entry("Right", result("correct")),
        entry("Noisy", result("undecided", reason="the forward is noisy", tensor=None)),
        entry("Wrong", result("wrong", diagnosis="It has the sign of its negative.", mismatch=mismatch)),
    )
    assert "3 backward passes: 1 correct, 1 wrong, 1 undecided." in text
    wrong = (
        "Wrong: gradient of x is wrong. Diagnosis: It has the sign of its negative. Worst entry \\[2, 1\\]: analytic "
    )
    assert f"{wrong}0.203836928, numeric -0.5, allowed ±8e-13." in text
    noisy = "Noisy: gradient is undecided. The forward is noisy."
    assert text.index(wrong) < text.index(noisy)
    assert "Right: " not in text


def test_a_finding_names_its_test_and_no_entry_that_there_is_not() -> None:
    mismatch = {"index": None, "analytic": 0.5, "numeric": 0.25, "allowed": 1e-13, "sides": ["analytic", "numeric"]}
    text = markdown(entry("Wrong", result("wrong", mismatch=mismatch), test="tests/test_a.py::test_b"))
    assert "test_b: Wrong: gradient of x is wrong. analytic 0.5, numeric 0.25" in text.replace("\\", "")
    assert "None" not in text.partition("Findings")[2].partition("Checks")[0]


def test_a_fragile_subject_fails_the_page_unless_it_is_only_reported() -> None:
    finding = result("fragile", check="input_layouts", reason="the gradient differs for a strided x")
    remark = result("limit", check="batch_consistency", tensor=None, reason="at N = 0 it raises")
    text = markdown(entry("Fragile", finding, remark))
    assert "failed**: The backward pass of Fragile is right at the given inputs and silently wrong elsewhere." in text
    assert "Fragile: input_layouts of x is fragile. The gradient differs for a strided x." in text
    assert "is limit" not in text and "at N = 0 it raises" in text, "a remark stands in the table of checks alone"
    reported = markdown(entry("Fragile", finding, passed=True, failed=False))
    assert "passed**: The backward pass of Fragile is right" in reported


def test_no_more_than_a_hundred_findings_are_told_at_length() -> None:
    text = markdown(entry("Wrong", *(result("wrong", tensor=f"x{number}") for number in range(103))))
    assert text.count("Wrong: gradient of") == 100 and "3 more findings stand in the table of checks alone." in text
    assert "| x102 |" in text


def test_each_subject_names_what_verifies_it_again() -> None:
    session = (
        entry("A", result("correct"), test="tests/test_a.py::test_a[1 2]"),
        entry("B", result("correct"), test="tests/test_a.py::test_b", level="full"),
    )
    document = verification_document(summarize_verifications(session), commands=("python -m pytest",))
    (table,) = document.sections[0].blocks
    assert isinstance(table, Table)
    assert table.header[0] == "test"
    assert [row[0] for row in table.rows] == ["tests/test_a.py::test_a[1 2]", "tests/test_a.py::test_b"]
    assert [row[-1] for row in table.rows] == [
        "python -m pytest 'tests/test_a.py::test_a[1 2]' --nnfs-seed=3",
        "python -m pytest tests/test_a.py::test_b --nnfs-seed=3 --nnfs-level=full",
    ]
    assert all(isinstance(row[-1], Code) for row in table.rows)
    assert "`verify it` |" in markdown(entry("A", result("correct")))
    assert "`verify it`" not in markdown(entry("A", result("correct")), commands=())
