"""The pytest plugin, used from outside through pytester."""

from __future__ import annotations

import pytest
import torch

GPU_TEST = """
import pytest

@pytest.mark.gpu
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
    result = pytester.runpytest_subprocess("-m", "gpu", "-rs")
    result.assert_outcomes(skipped=1, deselected=1)
    result.stdout.fnmatch_lines(["*NOTHING RAN ON A GPU: 1 tests skipped (no CUDA device*", "SKIPPED*no CUDA device*"])


@without_gpu
def test_the_summary_says_so_under_xdist_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(GPU_TEST)
    result = pytester.runpytest_subprocess("-n", "1")
    result.assert_outcomes(skipped=1, passed=1)
    result.stdout.fnmatch_lines(["*NOTHING RAN ON A GPU: 1 tests skipped*"])


@without_gpu
@pytest.mark.parametrize("by", ["option", "environment"])
def test_require_turns_a_missing_gpu_into_a_failure(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    pytester.makepyfile(GPU_TEST)
    if by == "environment":
        monkeypatch.setenv("NNFS_GPU", "require")
    result = pytester.runpytest_subprocess("-m", "gpu", *(["--nnfs-gpu=require"] if by == "option" else []))
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
