"""Subjects that were given in float32 and cannot compute in float64: they are verified in what they were given in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify import Report, Verdict, check

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(5, 4, generator=GENERATOR)
CLASSES = torch.tensor([0, 3, 1, 1, 2])


class Buffer:
    """The backward makes a matrix of the default dtype, which meets no float64."""

    factor = 1.0

    def forward(self, x: Any) -> Any:
        return x @ torch.ones(x.shape[1], 2, dtype=x.dtype)

    def backward(self, dy: Any) -> Any:
        return self.factor * dy @ torch.ones(2, X.shape[1])


class CrossEntropy:
    """-1/N stands in a tensor of the default dtype; the rest is computed in that of the input."""

    factor = 1.0

    def forward(self, x: Any, t: Any) -> Any:
        self.y, self.t = x.log_softmax(1), t
        return -self.y[torch.arange(len(t)), t].mean()

    def backward(self) -> Any:
        g = torch.zeros(self.y.shape)
        g[torch.arange(len(self.t)), self.t] = -self.factor / len(self.t)
        return g - self.y.exp() * g.sum(1, keepdim=True)


def of_x(report: Report) -> Verdict:
    return next(r.verdict for r in report.results if r.check == "gradient" and r.tensor in ("x", None))


@pytest.mark.parametrize(("make", "inputs"), [(Buffer, (X,)), (CrossEntropy, (X, CLASSES))])
def test_it_is_right_in_float32_and_its_faults_are_found_there(make: type[Any], inputs: tuple[Tensor, ...]) -> None:
    report = check(make(), *inputs)
    assert report.verdict is Verdict.CORRECT, str(report)
    (result,) = [r for r in report.results if r.check == "gradient"]
    assert "float32" in result.details["dtype"] or "float64" in result.details["dtype"]
    wrong = type("Wrong", (make,), {"factor": 1.01})
    assert of_x(check(wrong(), *inputs, checks="gradient")) is Verdict.WRONG


def test_an_error_that_float32_shows_is_looked_for_in_float64() -> None:
    # 1e-5 is a hundred roundings of float32, and the forward takes float64: nothing hides behind the dtype.
    class Slightly:
        def forward(self, x: Any) -> Any:
            self.x = x
            return x.sin()

        def backward(self, dy: Any) -> Any:
            return dy * self.x.cos() * (1 + 1e-5)

    assert of_x(check(Slightly(), X, checks="gradient")) is Verdict.WRONG


def test_what_was_given_in_float64_has_to_be_as_exact() -> None:
    report = check(CrossEntropy(), X.double(), CLASSES, checks="gradient")
    assert report.verdict is Verdict.WRONG


def test_a_backward_that_raises_in_every_dtype_is_wrong() -> None:
    class Raises(Buffer):
        def backward(self, dy: Any) -> Any:
            if dy.abs().sum() != dy.sum():  # not for the cotangents of ones by which its form is found out
                raise ValueError("no")
            return super().backward(dy)

    report = check(Raises(), X, checks="gradient")
    assert report.verdict is Verdict.WRONG and "raised ValueError: no" in str(report)
