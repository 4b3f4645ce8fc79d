"""The fixture gradcheck, its options and its summary, used from outside through pytester."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.testing import GradcheckCase, gradcheck_cases

FUNCTIONS = """
from random import SystemRandom

import torch

class Right(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.sigmoid()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y * (1 - y)

class Doubled(Right):
    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return 2 * g * y * (1 - y)

class Noisy(Right):
    @staticmethod
    def forward(ctx, x):
        y = x.sigmoid() + 1e-3 * SystemRandom().random()  # which no seed repeats
        ctx.save_for_backward(y)
        return y
"""

TESTS = """
import pytest
from functions import Doubled, Noisy, Right
from nn_from_scratch.testing import GradcheckCase, gradcheck_cases

def test_right(gradcheck):
    report = gradcheck(Right.apply, (4, 3), checks="gradient")
    assert report.passed

def test_doubled(gradcheck):
    gradcheck(Doubled.apply, (4, 3), checks="gradient")

def test_noisy(gradcheck):
    gradcheck(Noisy.apply, (4, 3), checks="gradient")

@gradcheck_cases(
    GradcheckCase(Right.apply, (2, 3), checks="gradient"),
    GradcheckCase(Right, (5,), name="vector", checks="gradient"),
)
def test_cases(gradcheck, case):
    gradcheck(case)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(functions=FUNCTIONS, test_project=TESTS)
    pytester.syspathinsert()
    return pytester


def test_a_session_is_reported_as_a_page_and_to_the_job_summary(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    project.runpytest_subprocess("--nnfs-report=report.html")
    page, summary = (Path(name).read_text(encoding="utf-8") for name in ("report.html", "summary.md"))
    for text in (page, summary):
        assert "5 backward passes: 3 correct, 1 wrong, 1 undecided" in text
        assert "test_doubled --nnfs-seed=0" in text and "factor of 2" in text
    assert page.startswith("<!DOCTYPE html>")
    places = [page.index(f">{verdict}</td>") for verdict in ("wrong", "undecided", "correct")]
    assert places == sorted(places)


def test_a_report_names_the_level_that_a_test_was_run_at(project: pytest.Pytester) -> None:
    project.runpytest_subprocess(
        "--nnfs-report=report.html", "--nnfs-level=full", "--nnfs-seed=3", "-k", "test_doubled"
    )
    page = Path("report.html").read_text(encoding="utf-8")
    assert "<code>python -m pytest test_project.py::test_doubled --nnfs-seed=3 --nnfs-level=full</code>" in page


@pytest.mark.parametrize(
    "arguments", [[], ["-n", "2"], ["-p", "no:cacheprovider"], ["-p", "no:randomly"]], ids=" ".join
)
def test_outcomes_and_summary_are_the_same_however_pytest_runs(project: pytest.Pytester, arguments: list[str]) -> None:
    result = project.runpytest_subprocess("--nnfs-report=report.json", "--junitxml=junit.xml", *arguments)
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(["*Doubled*WRONG*", "*factor of 2*"])
    result.stdout.fnmatch_lines(
        ["*verified backward passes*", "3 correct, 1 wrong, 1 undecided", "worst margin*test_doubled"]
    )
    result.stdout.fnmatch_lines(["undecided: *test_noisy: gradient of *: *nondeterministic*"])

    data = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert (data["schema"], data["version"], data["kind"]) == ("nn_from_scratch/results", 1, "verification")
    data = data["results"]
    assert (data["verdict"], data["counts"]) == (
        "wrong",
        {"correct": 3, "wrong": 1, "fragile": 0, "undecided": 1, "limit": 0},
    )
    verdicts = {entry["test"].split("::")[1]: entry["verdict"] for entry in data["verifications"]}
    assert verdicts == {
        "test_right": "correct",
        "test_doubled": "wrong",
        "test_noisy": "undecided",
        "test_cases[Right-2x3]": "correct",
        "test_cases[vector]": "correct",
    }
    properties = {
        case.get("name"): {p.get("name"): p.get("value") for p in case.iter("property")}
        for case in ET.parse("junit.xml").iter("testcase")
    }
    assert properties["test_doubled"]["nnfs_verdict"] == "wrong"
    assert properties["test_right"]["nnfs_seed"] == "0"


def test_the_failure_shows_the_report_and_no_traceback_of_ours(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("-k", "doubled")
    result.stdout.fnmatch_lines([">*gradcheck(Doubled.apply, (4, 3), checks=*", "*to reproduce:*"])
    result.stdout.no_fnmatch_line("*testing/gradcheck.py*")


def test_the_command_line_chooses_seed_level_and_checks(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_options="""
        from functions import Right

        def test_it(gradcheck):
            report = gradcheck(Right.apply, (4, 3))
            assert (report.seed, report.level) == (7, "full")
            assert {result.check for result in report.results} == {"gradient", "determinism"}
        """
    )
    options = ["--nnfs-seed=7", "--nnfs-level=full", "--nnfs-checks=gradient,determinism"]
    project.runpytest_subprocess("test_options.py", *options).assert_outcomes(passed=1)


FRAGILE = """
import torch

class Striding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g.as_strided(x.shape, (x.shape[1], 1))

class Viewing(Striding):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g.view(-1).view(x.shape)

def test_striding(gradcheck):
    gradcheck(Striding.apply, (4, 3), checks="gradient,cotangent_layouts")

def test_viewing(gradcheck):
    gradcheck(Viewing.apply, (4, 3), checks="gradient,cotangent_layouts")
"""


@pytest.mark.parametrize(
    ("options", "failed"),
    [
        ((), {"test_striding"}),
        (("--nnfs-fragile=report",), set()),
        (("--nnfs-strict",), {"test_striding", "test_viewing"}),
    ],
    ids=["default", "report", "strict"],
)
def test_what_fails_beside_what_is_wrong_can_be_chosen(
    pytester: pytest.Pytester, options: tuple[str, ...], failed: set[str]
) -> None:
    pytester.makepyfile(test_fragile=FRAGILE)
    result = pytester.runpytest_subprocess(*options)
    result.assert_outcomes(passed=2 - len(failed), failed=len(failed))
    result.stdout.fnmatch_lines(["*verified backward passes*", "*, 1 fragile, *"])
    result.stdout.fnmatch_lines(["fragile: *test_striding: cotangent_layouts of x: *with a strided*cotangent*"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--nnfs-report=missing/report.json",
            "*--nnfs-report is 'missing/report.json', but a file in an existing folder*",
        ),
        (
            "--nnfs-report=report.xml",
            "*--nnfs-report is 'report.xml', but a name that ends in .json, .md or .html is expected*",
        ),
        ("--nnfs-checks=gradient,-copies", "*names checks to run and checks to leave out; do one or the other*"),
        ("--nnfs-checks=gradeint", "*--nnfs-checks names 'gradeint', which is not a check; pytest --nnfs-list lists*"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_runs(
    pytester: pytest.Pytester, option: str, message: str
) -> None:
    pytester.makepyfile("def test_it():\n    pass\n")
    result = pytester.runpytest_subprocess(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_cases_have_readable_names() -> None:
    import torch

    assert GradcheckCase(torch.relu, torch.ones(2, 3), (4,)).name == "relu-2x3_float32-4"
    assert GradcheckCase((torch.sin, torch.cos), ()).name == "sin+cos-scalar"


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], "cases is empty"),
        (["relu"], "cases holds 'relu', but each must be a GradcheckCase"),
        ([GradcheckCase(abs, (2,)), GradcheckCase(abs, (2,))], "cases holds two of the name 'abs-2'"),
    ],
)
def test_cases_that_make_no_sense_are_refused(cases: list[GradcheckCase], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        gradcheck_cases(*cases)
