"""The examples do what they say, with small numbers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from nn_from_scratch.verify import Verdict
from tests.unit.docs.blocks import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_custom_function_has_its_planted_fault_named() -> None:
    wrong, right = load("custom_function").main()
    assert wrong.verdict is Verdict.WRONG
    assert "lacks the term that comes through the deviation" in str(wrong)
    assert right.passed, str(right)


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")  # the planted mistake, on a batch of none
def test_the_layers_of_the_course_are_told_apart() -> None:
    reports = load("numpy_course_layer").main()
    assert {name: str(report.verdict) for name, report in reports.items()} == {
        "Affine": "correct",
        "MaxPool": "correct",
        "MeanInsteadOfSum": "wrong",
    }
    assert "too small by a factor of 5, which is here N, the batch size" in str(reports["MeanInsteadOfSum"])


def test_the_triton_kernel_says_why_it_does_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("triton_kernel")
    monkeypatch.setattr(example, "triton", None)
    assert example.main() is None
    assert capsys.readouterr().out == "nothing was verified: the package triton is not installed\n"


@pytest.mark.gpu
def test_the_triton_kernel_is_right() -> None:
    pytest.importorskip("triton")
    report = load("triton_kernel").main()
    assert report.passed, str(report)


def test_the_denoiser_learns_and_leaves_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = load("denoiser").main(["--pairs", "640", "--epochs", "3", "--out", str(tmp_path)])
    said = [float(line.split("loss ")[1].split(",")[0]) for line in capsys.readouterr().out.splitlines()[:3]]
    assert said[2] < said[0], said
    assert {path.name for path in tmp_path.iterdir()} == {"noisy.png", "denoised.png", "denoiser.safetensors"}
    assert 15 < after < 40
    assert 20 < before < 21


def test_the_unet_is_right_and_learns() -> None:
    report, losses = load("unet").main(["--steps", "25", "--batch", "8"])
    assert report.passed, str(report)
    assert sum(losses[-3:]) < 0.75 * sum(losses[:3])
    assert torch.isfinite(torch.tensor(losses)).all()


def test_every_example_is_tested_and_is_shown_in_the_documentation() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    shown = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
    for path in EXAMPLES:
        assert f'load("{path.stem}")' in tests, path.name
        assert f"examples/{path.name}" in shown, path.name
