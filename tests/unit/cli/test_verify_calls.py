"""What `verify` calls its target with, and where it imports it from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nn_from_scratch.cli import main
from nn_from_scratch.cli.target import arrange_call, draw_inputs, load_target

SOURCE = """
import numpy as np
import torch

class Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, groups, w):
        ctx.save_for_backward(x, w)
        ctx.groups = groups
        return x.view(len(x), groups, -1).sum(1) * w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        parts = x.view(len(x), ctx.groups, -1)
        dx = (g * w)[:, None].expand_as(parts).reshape(x.shape)
        return dx, None, (g * parts.sum(1)).sum(0)

def power(x, exponent=2, *, scale):
    return scale * x**exponent, (x, exponent, scale)

def power_backward(dy, cache):
    x, exponent, scale = cache
    return scale * exponent * x ** (exponent - 1) * dy

class Power:
    @staticmethod
    def forward(x, exponent):
        return x**exponent, (x, exponent)

    @staticmethod
    def backward(dy, cache):
        x, exponent = cache
        return exponent * x ** (exponent - 1) * dy

class Weighted:
    def __init__(self):
        self.table = {"kernel": np.ones((3, 2), dtype=np.float32), "scale": np.ones(1)}

    def forward(self, x):
        return x @ self.table["kernel"]

    def backward(self, dy):
        return dy @ self.table["kernel"].T

def scaled(x, w):
    return x * w

def only_x(dy):
    return dy * W

W = np.ones((4, 3))
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "called.py"
    path.write_text(SOURCE, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Grouped", ["--input", "4,6", "--input", "3", "--arg", "groups=2"]),
        ("power,power_backward", ["--input", "4,3", "--arg", "3", "--arg", "scale=0.5", "--numpy"]),
        ("Power", ["--input", "4,3", "--arg", "exponent=3"]),
        ("Power", ["--input", "4,3", "--arg", "3", "--numpy"]),
    ],
)
def test_arguments_that_are_no_tensors_reach_the_call(
    file: str, capsys: pytest.CaptureFixture[str], name: str, options: list[str]
) -> None:
    assert main(["verify", f"{file}:{name}", *options, "--checks", "gradient"]) == 0, capsys.readouterr().out


def test_each_named_argument_has_its_place_and_the_others_fill_what_is_left(file: str) -> None:
    grouped = load_target(f"{file}:Grouped")
    assert arrange_call(grouped, ["x", "w"], [], {"groups": 2}) == (["x", 2, "w"], {})
    assert arrange_call(grouped, ["x"], [None, "w"], {}) == (["x", None, "w"], {})
    power = load_target(f"{file}:power,power_backward")
    assert arrange_call(power, ["x"], [], {"scale": 3}) == (["x"], {"scale": 3})


def test_the_inputs_that_are_differentiated_are_named(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["verify", f"{file}:scaled,only_x", "--input", "4,3", "--input", "4,3", "--numpy", "--checks", "gradient"]
    assert main(command) == 1
    assert main([*command, "--differentiable", "x"]) == 1  # W is not the w of the call
    out = capsys.readouterr().out
    assert "gradient of w" not in out and "gradient of x" in out
    assert main([*command, "--differentiable", "z"]) == 2
    assert "differentiable names 'z'" in capsys.readouterr().err


def test_inputs_have_the_dtype_of_the_largest_tensor_that_is_held(file: str) -> None:
    (x,) = draw_inputs(["4,3"], load_target(f"{file}:Weighted")(), seed=0, numpy=True)  # type: ignore[operator]
    assert x.dtype == "float32"


def test_a_file_in_a_package_imports_its_neighbors_by_relative_names(tmp_path: Path) -> None:
    inner = tmp_path / "course_of_mine" / "layers"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("", encoding="utf-8")
    (inner.parent / "tools.py").write_text("def double(x):\n    return 2 * x\n", encoding="utf-8")
    (inner / "linear.py").write_text("from ..tools import double\n", encoding="utf-8")
    path = list(sys.path)
    try:
        assert callable(load_target(f"{inner / 'linear.py'}:double"))
        assert sys.path == path
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "course_of_mine"]:
            del sys.modules[name]


def test_a_file_imports_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "helpers_of_mine.py").write_text("def triple(x):\n    return 3 * x\n", encoding="utf-8")
    (tmp_path / "deep" / "scaling.py").write_text("from helpers_of_mine import triple\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    try:
        assert callable(load_target("deep/scaling.py:triple"))
    finally:
        sys.modules.pop("helpers_of_mine", None)
