import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nn_from_scratch.verify import check


class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


def forward(x: Any) -> Any:
    return 2 * x


def backward(dy: Any) -> Any:
    return 3 * dy


def snippet_of(subject: object, *inputs: object, **arguments: Any) -> str | None:
    report = check(subject, *inputs, checks="gradient", **arguments)
    (result,) = report.raise_if_wrong().results if report.passed else report.results
    return result.snippet


def run(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "finding.py"
    path.write_text(source)
    root = Path(__file__).parents[3]
    return subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        check=False,
    )


def local_function() -> Any:
    scale = 0.5

    class Local(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return scale * g

    return Local.apply


X = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
SUBJECTS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "function of a module": (Half.apply, (X,), {"seed": 4}),
    "pair on arrays": ((forward, backward), (X.numpy(),), {"names": ["data"]}),
    "local function": (local_function(), (X.float(),), {"level": "full"}),
    "embedded input": (Half.apply, (torch.randn(20, 30, dtype=torch.float64),), {}),
    "large input": (Half.apply, (torch.randn(150, 150),), {}),
    "input that requires grad": (Half.apply, (X.clone().requires_grad_(),), {}),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_snippet_reproduces_its_finding_in_a_new_file(name: str, tmp_path: Path) -> None:
    subject, inputs, arguments = SUBJECTS[name]
    source = snippet_of(subject, *inputs, **arguments)
    assert source is not None
    ended = run(source, tmp_path)
    assert "WrongGradientError" in ended.stderr, ended.stderr
    assert "WRONG: gradient of" in ended.stderr


def test_a_snippet_of_a_replaced_input_says_so() -> None:
    assert "too many entries" in (snippet_of(Half.apply, torch.randn(150, 150)) or "")


class Scale(nn.Module):
    """A module whose gradient is half of the right one, and that holds more than parameters."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), 2.0, dtype=torch.float64))
        self.register_buffer("shift", torch.ones(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        out = Half.apply(x * self.scale + self.shift)
        assert isinstance(out, Tensor)
        return out


class Affine:
    """A layer as written in courses, whose bias gradient is averaged instead of summed."""

    def __init__(self) -> None:
        self.params = {"W": np.arange(6.0).reshape(3, 2), "b": np.zeros(2)}
        self.grads: dict[str, Any] = {}
        self.W = self.params["W"]

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.W + self.params["b"]

    def backward(self, dy: Any) -> Any:
        self.grads["W"] = self.x.T @ dy
        self.grads["b"] = dy.mean(0)
        return dy @ self.W.T


@pytest.mark.parametrize(("subject", "x"), [(Scale(), X), (Affine(), X.numpy())], ids=["module", "layer object"])
def test_the_snippet_of_an_object_puts_it_together(subject: object, x: Any, tmp_path: Path) -> None:
    report = check(subject, x, checks="gradient")
    source = next(result.snippet for result in report.results if result.snippet is not None)
    assert "pickle" not in source
    ended = run(source, tmp_path)
    assert "WRONG: gradient of" in ended.stderr, source + ended.stderr


def test_what_cannot_be_written_down_has_no_snippet() -> None:
    hidden = {"key": Half.apply}
    assert snippet_of(lambda x: hidden["key"](x), X) is None


def test_arrays_stay_arrays() -> None:
    assert ".numpy()" in (snippet_of((forward, backward), np.ones((2, 2))) or "")


def test_nothing_is_written_for_what_is_right() -> None:
    assert snippet_of(torch.tanh, X) is None
