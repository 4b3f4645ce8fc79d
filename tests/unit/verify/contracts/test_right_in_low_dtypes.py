"""Low dtypes for layers, NumPy and counts: what rounding and overflow explain there, and what they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify import check
from nn_from_scratch.verify.results import CheckResult, Verdict
from tests.functions import draw, function

X = draw(4, 5)


def look(subject: Any, *inputs: Any) -> list[CheckResult]:
    return list(check(subject, *inputs, checks="low_precision").results)


class Unit:
    """A unit whose sum is 2^-11 in float64 and rounds to 0 in float16, at its own input."""

    def __init__(self) -> None:
        self.w = torch.tensor([1.0, 2.0**-11, -1.0], dtype=torch.float64)
        self.dw = torch.zeros_like(self.w)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        s = x[0] * self.w[0]
        s = s + x[1] * self.w[1]
        s = s + x[2] * self.w[2]
        self.on = s > 0
        return torch.where(self.on, s, 0 * s)

    def backward(self, dy: Tensor) -> Tensor:
        g = dy * self.on
        self.dw = torch.stack([(g * self.x[i]).sum() for i in range(3)])
        return torch.stack([g * self.w[i] for i in range(3)])


def nearly_off() -> Tensor:
    x = torch.ones(3, 4, dtype=torch.float64)
    x[:, 1:] = draw(3, 3).abs() + 1
    return x


def sigmoid_of_arrays() -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(x: Any) -> tuple[Any, Any]:
        y = 1 / (1 + np.exp(-x))
        return y, y

    return forward, lambda dy, y: dy * y * (1 - y)


RIGHT: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "a square that overflows inside": (torch.asinh, (3e4 * X,)),
    "a unit that switches by rounding": (Unit(), (nearly_off(),)),
    "a captured tensor of float64": (lambda x: x * X, (X + 1,)),
    "NumPy, with a cancellation": (sigmoid_of_arrays(), (np.full((2, 2), 9.0),)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_backward_is_not_accused(name: str) -> None:
    subject, inputs = RIGHT[name]
    verdicts = {result.verdict for result in look(subject, *inputs)}
    assert verdicts <= {Verdict.CORRECT, Verdict.LIMIT, Verdict.NOT_APPLICABLE}, look(subject, *inputs)


def one_by_one(g: Tensor, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    total = torch.zeros_like(b)
    for row in g:
        total = total + row
    return g, total


def largest(g: Tensor, x: Tensor) -> Tensor:
    ties = (x == x.amax()).to(x.dtype)
    count = torch.zeros_like(g)
    for _ in range(2):  # more than float16 holds, without a tensor of as many entries
        count = count + ties.sum() * 1e4
    return g * 2e4 * ties / count


FRAGILE: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "a sum over 600 rows, one by one": (function(lambda x, b: x + b, one_by_one), (draw(600, 3), draw(3))),
    "a count of ties that overflows": (function(lambda x: x.amax(), largest), (torch.ones(5, dtype=torch.float64),)),
    "NumPy, a tenth in float32": (
        (lambda x: (np.sin(x), x), lambda dy, x: dy * np.cos(x) * (1.1 if x.dtype == np.float32 else 1)),
        (X.numpy(),),
    ),
}


@pytest.mark.parametrize("name", FRAGILE)
def test_what_rounding_does_not_explain_is_fragile(name: str) -> None:
    subject, inputs = FRAGILE[name]
    assert Verdict.FRAGILE in {result.verdict for result in look(subject, *inputs)}


def test_a_gradient_of_pytorchs_own_that_is_not_finite_in_few_digits_is_a_limit() -> None:
    layer = torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(4, 4, dtype=torch.float64))
    report = check(layer, torch.randn(5, 4, dtype=torch.float64), checks="low_precision")
    assert not report.failed, str(report)


def test_a_gradient_that_is_rounding_in_float64_too_is_a_limit() -> None:
    x, w, b = (torch.tensor([value]) for value in (-0.0003494183183647692, 0.41212716698646545, 2.2442710399627686))
    results = look(lambda x, w, b: F.layer_norm(x, (1,), w, b).cos(), x[None], w, b)
    assert {r.verdict for r in results} == {Verdict.CORRECT, Verdict.LIMIT}, [str(r) for r in results]
