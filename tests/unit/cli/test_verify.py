"""`nn-from-scratch verify`: verdicts as exit statuses, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nn_from_scratch.cli import main
from nn_from_scratch.report.results_file import read_results

SOURCE = """
import numpy as np
import torch

class Right(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g

class Flipped(Right):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return -2 * x * g

class Noisy(Right):
    calls = 0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        Noisy.calls += 1
        return torch.tanh(x) + 1e-3 * (7 * Noisy.calls % 5)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (1 - torch.tanh(x) ** 2)

def forward(x):
    return np.tanh(x), x

def backward(dy, x):
    return dy * (1 - np.tanh(x) ** 2)

class Affine:
    def __init__(self, inputs, outputs=2):
        self.W = np.ones((inputs, outputs))

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = self.x.T @ dy
        return dy @ self.W.T

def pick(x, index):
    return x[index]

class Striding(Right):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g.as_strided(x.shape, (x.shape[1], 1))

class Viewing(Right):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g.view(-1).view(x.shape)

class Refusing:
    def __init__(self):
        raise ValueError("not today")

number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "subjects.py"
    path.write_text(SOURCE, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("name", "options", "status", "said"),
    [
        ("Right", ["--input", "4,3"], 0, "Right (autograd): CORRECT"),
        ("Flipped", ["--input", "4,3"], 1, "sign"),
        ("Noisy", ["--input", "4,3"], 3, "nondeterministic"),
        ("forward,backward", ["--input", "4,3", "--numpy"], 0, "(pair): CORRECT"),
        ("Affine", ["--arg", "3", "--arg", "outputs=4", "--input", "5,3", "--numpy"], 0, "(layer object): CORRECT"),
        ("pick", ["--input", "5,3", "--input", "4:int64<5"], 0, "CORRECT"),
    ],
)
def test_the_verdict_is_the_exit_status(
    file: str, capsys: pytest.CaptureFixture[str], name: str, options: list[str], status: int, said: str
) -> None:
    assert main(["verify", f"{file}:{name}", *options, "--checks", "gradient"]) == status
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "options", "status", "said"),
    [
        ("Striding", [], 1, "Striding (autograd): FRAGILE"),
        ("Striding", ["--fragile=report"], 0, "Striding (autograd): FRAGILE"),
        ("Viewing", [], 0, "Viewing (autograd): CORRECT"),
        ("Viewing", ["--strict"], 1, "Viewing (autograd): LIMIT"),
    ],
)
def test_what_is_fragile_and_what_is_a_limit_count_as_asked(
    file: str, capsys: pytest.CaptureFixture[str], name: str, options: list[str], status: int, said: str
) -> None:
    command = ["verify", f"{file}:{name}", "--input", "4,3", "--checks", "gradient,cotangent_layouts"]
    assert main([*command, *options]) == status
    assert said in capsys.readouterr().out


def test_a_module_is_made_from_arguments_and_its_inputs_have_its_dtype(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--arg", "2", "--arg", "3", "--arg", "kernel_size=2", "--input", "1,2,4,4", "--checks", "gradient"]
    assert main(["verify", "nn_from_scratch:Conv2d", *options]) == 0
    assert "Conv2d (engine module): CORRECT" in capsys.readouterr().out


def test_one_verification_is_written_as_results_markdown_and_page(file: str, tmp_path: Path) -> None:
    paths = {kind: tmp_path / f"report.{kind}" for kind in ("json", "markdown", "html")}
    options = [f"--{kind}={path}" for kind, path in paths.items()]
    assert main(["verify", f"{file}:Flipped", "--input", "4,3", "--checks", "gradient", *options]) == 1
    found = read_results(paths["json"])
    assert (found["kind"], found["results"]["verdict"]) == ("verification", "wrong")
    assert "sign" in found["results"]["verifications"][0]["results"][0]["diagnosis"]
    command = f"nn-from-scratch verify {file}:Flipped --input=4,3 --seed=0 --level=quick --checks=gradient"
    assert found["commands"] == [command]
    for kind in ("markdown", "html"):
        text = paths[kind].read_text(encoding="utf-8")
        assert command in text and "sign" in text and "failed" in text
        assert text.index("The backward pass of Flipped is wrong") < text.index("Findings") < text.index("Environment")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (
            "subjects",
            ["--input", "3"],
            "target is 'subjects', but package.module:name or path/to/file.py:name is expected",
        ),
        ("nothing_of_that_name:f", ["--input", "3"], "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("missing.py:f", ["--input", "3"], "target names the file 'missing.py', which does not exist"),
        ("{file}", ["--input", "3"], "a file without a name in it; say what to take from it, as in {file}:Right or :"),
        ("{file}:Rihgt", ["--input", "3"], "there is no 'Rihgt' (did you mean 'Right'?); there are: Affine, Flipped"),
        ("{file}:Affine", ["--input", "3"], "'inputs'; --arg VALUE or --arg NAME=VALUE hands it an"),
        ("{file}:Right", ["--input", "3", "--input", "4"], "were given (called with --input 3 --input 4)"),
        ("{file}:Right", [], "--input is missing: give one for each input of the subject"),
        ("{file}:Right", ["--input", "3,x"], "input is '3,x', but a shape such as 4,3,8,8"),
        ("{file}:Right", ["--input", "3:float63"], "torch has no dtype 'float63'"),
        ("{file}:Right", ["--input", "3:float64<5"], "an upper bound is for integers"),
        ("{file}:Right", ["--arg", "3", "--input", "3"], "were given (called with --input 3)"),
        ("{file}:Refusing", ["--input", "3"], "Refusing() raises ValueError: not today"),
        ("{file}:number", ["--input", "3"], "these forms are known"),
        ("{file}:Right", ["--input", "3", "--checks", "gradeint"], "gradeint"),
        (
            "{file}:Right",
            ["--input", "3", "--json", "missing/report.json"],
            "but a file in an existing folder is expected",
        ),
        ("{file}:Affine", ["--arg", "2", "--input", "5,3", "--numpy"], "raised ValueError: matmul"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_status_2(
    file: str, capsys: pytest.CaptureFixture[str], target: str, options: list[str], message: str
) -> None:
    assert main(["verify", target.format(file=file), *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("nn-from-scratch: error: ")
    assert message.format(file=file) in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("raise SystemExit(0)\n", 2),
        ("def f(x):\n    raise SystemExit(0)\n", 2),
        ("class f:\n    def __init__(self):\n        raise SystemExit(0)\n", 2),
        (SOURCE + "\nclass f(Right):\n    @staticmethod\n    def backward(ctx, g):\n        raise SystemExit(0)\n", 1),
    ],
    ids=["import", "forward", "constructor", "backward"],
)
def test_code_that_exits_with_success_is_not_taken_for_a_correct_one(tmp_path: Path, source: str, status: int) -> None:
    path = tmp_path / "exiting.py"
    path.write_text(source, encoding="utf-8")
    assert main(["verify", f"{path}:f", "--input", "3", "--checks", "gradient"]) == status


@pytest.mark.parametrize(("name", "status", "verdict"), [("Right", 0, "correct"), ("Flipped", 1, "wrong")])
def test_json_to_the_standard_output_is_one_document(
    file: str, capsys: pytest.CaptureFixture[str], name: str, status: int, verdict: str
) -> None:
    assert main(["verify", f"{file}:{name}", "--input", "4,3", "--checks", "gradient", "--json", "-"]) == status
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "nn_from_scratch/results"
    assert found["results"]["verifications"][0]["verdict"] == verdict


def test_an_import_error_is_shown_in_its_own_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\nimport nothing_of_that_name\n", encoding="utf-8")
    assert main(["verify", f"{path}:f", "--input", "3"]) == 2
    error = capsys.readouterr().err
    assert (
        "cannot be imported: ModuleNotFoundError: No module named 'nothing_of_that_name' (broken.py, line 2)" in error
    )
