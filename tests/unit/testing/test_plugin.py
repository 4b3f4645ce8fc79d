"""The pytest plugin, used from outside through pytester."""

from __future__ import annotations

import pytest
import torch

from nn_from_scratch.verify import check_names

GPU_TEST = """
import pytest

@pytest.mark.nnfs_gpu
def test_on_gpu():
    pass

def test_elsewhere():
    pass
"""

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="the behavior without a GPU is tested here")


@pytest.fixture(autouse=True)
def _no_mode_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NNFS_GPU", raising=False)


@without_gpu
def test_gpu_tests_without_a_gpu_are_skipped_and_the_summary_says_that_nothing_ran(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(GPU_TEST)
    result = pytester.runpytest_subprocess("-m", "nnfs_gpu", "-rs")
    result.assert_outcomes(skipped=1, deselected=1)
    result.stdout.fnmatch_lines(["*NOTHING RAN ON A GPU: 1 test skipped (no CUDA device*", "SKIPPED*no CUDA device*"])


@without_gpu
def test_the_summary_says_so_under_xdist_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(GPU_TEST)
    result = pytester.runpytest_subprocess("-n", "1")
    result.assert_outcomes(skipped=1, passed=1)
    result.stdout.fnmatch_lines(["*NOTHING RAN ON A GPU: 1 test skipped*"])


@without_gpu
@pytest.mark.parametrize("by", ["option", "environment"])
def test_require_turns_a_missing_gpu_into_a_failure(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    pytester.makepyfile(GPU_TEST)
    if by == "environment":
        monkeypatch.setenv("NNFS_GPU", "require")
    result = pytester.runpytest_subprocess("-m", "nnfs_gpu", *(["--nnfs-gpu=require"] if by == "option" else []))
    result.assert_outcomes(errors=1, deselected=1)
    result.stdout.fnmatch_lines(["*no CUDA device: torch*, but --nnfs-gpu=require asks for one"])
    assert result.ret == 1


def test_off_skips_with_its_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(GPU_TEST)
    result = pytester.runpytest_subprocess("--nnfs-gpu=off", "-rs")
    result.assert_outcomes(skipped=1, passed=1)
    result.stdout.fnmatch_lines(["*GPU tests are switched off (--nnfs-gpu=off)*"])


def test_a_mode_that_does_not_exist_is_refused(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNFS_GPU", "maybe")
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*NNFS_GPU is 'maybe', but one of auto, require, off is expected*"])


def test_a_run_without_gpu_tests_says_nothing_of_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_elsewhere():\n    pass\n")
    result = pytester.runpytest_subprocess()
    result.stdout.no_fnmatch_line("*GPU*")


def test_the_mark_of_another_project_is_its_own(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers = gpu: of this project\n")
    pytester.makepyfile(GPU_TEST.replace("nnfs_gpu", "gpu"))
    result = pytester.runpytest_subprocess("--nnfs-gpu=off", "--strict-markers")
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*GPU*")


def test_the_ini_file_names_the_mark(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nnnfs_gpu_mark = gpu\n")
    pytester.makepyfile(test_one=GPU_TEST.replace("nnfs_gpu", "gpu"), test_two=GPU_TEST)
    result = pytester.runpytest_subprocess("-m", "gpu", "--nnfs-gpu=off", "--strict-markers")
    result.assert_outcomes(skipped=2, deselected=2)


@pytest.mark.parametrize(
    ("ini", "timer"), [("", "perf_counter"), ("nnfs_benchmark_timer = true", "synchronized_clock")]
)
def test_the_clock_of_benchmarks_is_replaced_where_that_is_asked_for(
    pytester: pytest.Pytester, ini: str, timer: str
) -> None:
    pytester.makeini(f"[pytest]\n{ini}\n")
    pytester.makepyfile(
        f"def test_it(pytestconfig):\n    assert {timer!r} in str(pytestconfig.option.benchmark_timer)\n"
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_the_checks_are_listed_and_no_test_runs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("raise RuntimeError('imported')\n")
    result = pytester.runpytest_subprocess("--nnfs-list")
    assert result.ret == 0
    assert [line.split()[0] for line in result.outlines] == list(check_names())
    assert all(len(line.split()) > 3 for line in result.outlines)


@pytest.mark.parametrize("options", [(), ("--nnfs-seed=4", "--nnfs-level=quick", "--nnfs-checks=determinism")])
def test_the_ini_file_says_what_the_command_line_does_not(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    pytester.makeini("[pytest]\nnnfs_seed = 3\nnnfs_level = full\nnnfs_checks = gradient\n")
    wanted = (4, "quick", {"determinism"}) if options else (3, "full", {"gradient"})
    pytester.makepyfile(
        "import torch\n"
        "def test_it(gradcheck):\n"
        "    report = gradcheck(torch.sin, torch.ones(3, dtype=torch.float64))\n"
        f"    assert (report.seed, report.level, {{r.check for r in report.results}}) == {wanted!r}\n"
    )
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("nnfs_seed = x", "*the ini option nnfs_seed is 'x', but a whole number is expected*"),
        ("nnfs_level = deep", "*the ini option nnfs_level is 'deep', but one of quick, full is expected*"),
        ("nnfs_strict = maybe", "*the ini option nnfs_strict is 'maybe', but one of true, false is expected*"),
        (
            "nnfs_checks = gradeint",
            "*the ini option nnfs_checks names 'gradeint', which is not a check; pytest --nnfs-*",
        ),
    ],
)
def test_an_ini_file_that_makes_no_sense_is_refused_before_anything_runs(
    pytester: pytest.Pytester, line: str, sentence: str
) -> None:
    pytester.makeini(f"[pytest]\n{line}\n")
    pytester.makepyfile("raise RuntimeError('imported')\n")
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([sentence])


@pytest.mark.parametrize(("factor", "outcome"), [(1, "passed"), (2, "failed")])
def test_the_fixture_works_under_given(pytester: pytest.Pytester, factor: int, outcome: str) -> None:
    pytester.makepyfile(
        "import torch\n"
        "from hypothesis import given, settings, strategies as st\n"
        "class Square(torch.autograd.Function):\n"
        "    forward = staticmethod(lambda ctx, x: (ctx.save_for_backward(x), x * x)[1])\n"
        f"    backward = staticmethod(lambda ctx, g: {factor} * 2 * g * ctx.saved_tensors[0])\n"
        "@settings(deadline=None, max_examples=3, database=None)\n"
        "@given(n=st.integers(1, 3))\n"
        "def test_it(gradcheck, n):\n"
        "    gradcheck(Square.apply, (n, 2), checks='gradient')\n"
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(**{outcome: 1})
    if outcome == "failed":
        result.stdout.fnmatch_lines(["*factor of 2*"])
