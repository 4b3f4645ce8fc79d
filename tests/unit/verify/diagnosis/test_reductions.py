"""Faults of maxima and deviations along an axis, from the check of a gradient to the name of the fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.gradients import check_gradient
from nn_from_scratch.verify.results import Verdict
from nn_from_scratch.verify.subjects import as_subject

X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def to_the_first(g: Tensor, x: Tensor) -> Tensor:
    return torch.cat([g[:, None], torch.zeros_like(x[:, 1:])], dim=1)


def deviation(x: Tensor, correction: int) -> Tensor:
    return x.std(1, correction=correction, keepdim=True)


@pytest.mark.parametrize(
    ("forward", "vjp", "sentence"),
    [
        (lambda x: x.amax(1), to_the_first, "goes to the first entry, not to the maximum"),
        (lambda x: x.amax(1), lambda g, x: g[:, None].expand(x.shape).clone(), "hands the cotangent to every entry"),
        (lambda x: x.amax(1), lambda g, x: g[:, None].expand(x.shape) / 5, "is that of the mean along axis 1"),
        (lambda x: x.var(1, correction=0), lambda g, x: g[:, None] * 2 * x / 5, "uses x where it should use x - mean"),
        (
            lambda x: x.std(1, correction=0),
            lambda g, x: g[:, None] * x / 5 / deviation(x, 0),
            "uses x where it should use x - mean",
        ),
        (
            lambda x: x.std(1, correction=1),
            lambda g, x: g[:, None] * (x - x.mean(1, keepdim=True)) / 4,
            "lacks the factor 1/s in the derivative of the deviation s",
        ),
    ],
)
def test_the_fault_is_named(
    forward: Callable[[Tensor], Tensor], vjp: Callable[[Tensor, Tensor], Tensor], sentence: str
) -> None:
    class Reduced(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return forward(x)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return vjp(g, *ctx.saved_tensors)

    (result,) = check_gradient(as_subject(Reduced.apply, X), CheckContext())
    assert result.verdict is Verdict.WRONG and sentence in (result.diagnosis or "")
    assert sentence in str(result)
