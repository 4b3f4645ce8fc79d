"""Other strides: functions about memory, random masks and views are right; a backward that reads memory is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify import check
from nn_from_scratch.verify.results import CheckResult, Verdict
from tests.functions import draw, function

X = draw(4, 6)
CHECKS = ("input_layouts", "cotangent_layouts")


def look(subject: Callable[..., Any], *inputs: Tensor) -> tuple[CheckResult, ...]:
    return check(subject, *inputs, checks=CHECKS).results


def masked(x: Tensor) -> Tensor:
    return x * torch.empty_like(x).bernoulli_(0.5)


RIGHT: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "as_strided": (lambda x: x.as_strided((2, 2), (1, 2)), (X,)),
    "a view": (lambda x: x.view(3, 8), (X,)),
    "a view in the backward": (function(torch.sin, lambda g, x: (g.view(-1) * x.reshape(-1).cos()).view(4, 6)), (X,)),
    "a random mask in the layout of the input": (masked, (X,)),
    "dropout": (lambda x: F.dropout(x, 0.5, True), (X,)),
    "sorted ties of an expanded input": (torch.sort, (draw(40),)),
    "the same of a long one": (torch.msort, (draw(8000),)),
    "a transposed input": (torch.tanh, (X.T,)),
    "channels last": (
        lambda x: F.relu(x).mean((2, 3)),
        (draw(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),),
    ),
    "determinant of an expanded matrix": (torch.linalg.slogdet, (draw(3, 3),)),
    "an expanded input": (torch.sin, (draw(1, 4).expand(3, 4),)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_function_is_not_accused(name: str) -> None:
    subject, inputs = RIGHT[name]
    found = look(subject, *inputs)
    assert {result.verdict for result in found} <= {Verdict.CORRECT, Verdict.LIMIT, Verdict.NOT_APPLICABLE}, found


FRAGILE: dict[str, tuple[str, Callable[..., Any]]] = {
    "x is read in memory order": (
        "input_layouts",
        function(torch.square, lambda g, x: 2 * g * x.as_strided(x.shape, (x.shape[1], 1))),
    ),
    "the cotangent is read in memory order": (
        "cotangent_layouts",
        function(torch.square, lambda g, x: 2 * x * g.as_strided(g.shape, (g.shape[1], 1))),
    ),
}


@pytest.mark.parametrize("name", FRAGILE)
def test_a_backward_that_reads_memory_is_fragile(name: str) -> None:
    check_name, subject = FRAGILE[name]
    assert (check_name, Verdict.FRAGILE) in {(result.check, result.verdict) for result in look(subject, X)}
