"""Integers, masks and constants take other values, within what was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify import CheckResult, Verdict, check
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import CONTRACTS
from nn_from_scratch.verify.subjects import as_subject
from tests.functions import draw, function

MASK = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
ONE_EACH = torch.eye(3, 4, dtype=torch.bool)
SEGMENTS = torch.tensor([0, 2, 1, 0, 2, 2])
LABELS = F.one_hot(torch.tensor([0, 2, 1, 2])).double()


def found(subject: object, *inputs: object, differentiable: tuple[str, ...] = ("x",)) -> list[CheckResult]:
    return CONTRACTS["constant_inputs"](as_subject(subject, *inputs, differentiable=differentiable), CheckContext())


def verdicts(subject: object, *inputs: object) -> set[Verdict]:
    return {result.verdict for result in found(subject, *inputs)}


def masked_mean(least: int) -> Callable[..., Any]:
    """The mean of each row's entries in a mask; the backward divides by at least so many."""

    def backward(g: Tensor, x: Tensor, mask: Tensor) -> Any:
        return g[:, None] * mask / mask.sum(-1, keepdim=True).clamp(min=least), None

    return function(lambda x, mask: (x * mask).sum(-1) / mask.sum(-1).clamp(min=1), backward)


def segment_mean(*, only_if_all: bool) -> Callable[..., Any]:
    """The mean of each segment, zero for an empty one; the backward may give nothing where one is empty."""

    def counts(x: Tensor, segments: Tensor) -> Tensor:
        return torch.zeros(3, dtype=x.dtype).index_add(0, segments, torch.ones_like(x))

    def forward(x: Tensor, segments: Tensor) -> Tensor:
        return torch.zeros(3, dtype=x.dtype).index_add(0, segments, x) / counts(x, segments).clamp(min=1)

    def backward(g: Tensor, x: Tensor, segments: Tensor) -> Any:
        n = counts(x, segments)
        given = bool((n > 0).all()) or not only_if_all
        return (g / n.clamp(min=1))[segments] * given, None

    return function(forward, backward)


def cross_entropy(*, any_targets: bool) -> Callable[..., Any]:
    """The backward is that for targets of any sum, or for those that add up to one."""

    def backward(g: Tensor, x: Tensor, y: Tensor) -> Any:
        total = y.sum(-1, keepdim=True) if any_targets else 1
        return g * (x.softmax(-1) * total - y), None

    return function(lambda x, y: -(y * x.log_softmax(-1)).sum(), backward)


def test_a_row_of_a_mask_without_entries() -> None:
    assert verdicts(masked_mean(1), draw(3, 4), MASK) == {Verdict.CORRECT}
    (wrong,) = found(masked_mean(0), draw(3, 4), MASK)
    assert wrong.verdict is Verdict.FRAGILE
    assert "for mask with an empty row" in str(wrong.reason)


def test_where_every_row_has_as_many_entries_an_empty_one_is_not_meant() -> None:
    assert verdicts(masked_mean(1), draw(3, 4), ONE_EACH) == {Verdict.CORRECT}
    assert verdicts(masked_mean(0), draw(3, 4), ONE_EACH) == {Verdict.CORRECT, Verdict.LIMIT}


def test_a_segment_without_entries() -> None:
    assert verdicts(segment_mean(only_if_all=False), draw(6), SEGMENTS) == {Verdict.CORRECT}
    (wrong,) = found(segment_mean(only_if_all=True), draw(6), SEGMENTS)
    assert wrong.verdict is Verdict.FRAGILE
    assert "for segments without the value 1" in str(wrong.reason)


def test_integers_that_all_differ_or_are_in_order_stay_so() -> None:
    seen: list[Tensor] = []

    def taken(x: Tensor, i: Tensor) -> Tensor:
        seen.append(i)
        return x[i]

    found(taken, draw(4), torch.tensor([2, 0, 3]))
    assert {tuple(i.tolist()) for i in seen} == {(2, 0, 3), (3, 0, 2)}
    seen.clear()
    found(taken, draw(4), torch.tensor([0, 0, 3]))
    assert {tuple(i.tolist()) for i in seen} == {(0, 0, 3), (0, 0, 0)}
    seen.clear()
    assert {r.verdict for r in found(taken, draw(4), torch.tensor([0, 2, 3]))} == {Verdict.NOT_APPLICABLE}


def test_targets_that_no_longer_add_up_to_one_are_a_limit_at_most() -> None:
    assert verdicts(cross_entropy(any_targets=True), draw(4, 3), LABELS) == {Verdict.CORRECT}
    assert verdicts(cross_entropy(any_targets=False), draw(4, 3), LABELS) == {Verdict.CORRECT, Verdict.LIMIT}
    report = check(cross_entropy(any_targets=False), draw(4, 3), LABELS, differentiable=["x"])
    assert report.passed, str(report)


@pytest.mark.parametrize(
    ("subject", "inputs"),
    [
        (lambda x, i: x.gather(1, i), (draw(3, 4), torch.tensor([[0, 3], [2, 2], [1, 3]]))),
        (lambda x, i, s: x.index_copy(0, i, s), (draw(3, 2), torch.tensor([2, 0, 1]), draw(3, 2, seed=1))),
        (lambda x, y: F.cross_entropy(x, y), (draw(4, 3), torch.tensor([0, 2, 1, 2]))),
        (lambda x, m: x.masked_fill(~m, -torch.inf).softmax(-1), (draw(3, 4), MASK)),
        (lambda x, m: x[m].square(), (draw(3, 4), MASK)),
        (
            lambda x, y, n, k: F.ctc_loss(x.log_softmax(-1), y, n, k),
            (draw(6, 2, 4), torch.tensor([[1, 2, 2], [3, 1, 1]]), torch.tensor([6, 5]), torch.tensor([3, 2])),
        ),
        (torch.tanh, (draw(3),)),
    ],
    ids=["gather", "index_copy", "cross entropy", "masked softmax", "mask as index", "ctc", "no constant"],
)
def test_right_functions_of_constants_are_right(subject: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    names = None if subject is torch.tanh else ["x"]
    checked = as_subject(subject, *inputs, differentiable=names)
    assert {r.verdict for r in CONTRACTS["constant_inputs"](checked, CheckContext())} <= {
        Verdict.CORRECT,
        Verdict.NOT_APPLICABLE,
    }


def test_positions_between_and_at_whole_numbers() -> None:
    table = torch.arange(6, dtype=torch.float64).square()

    def interpolated(x: Tensor) -> Tensor:
        left = x.floor().long().clamp(0, 4)
        return table[left] * (left + 1 - x) + table[left + 1] * (x - left)

    def by_ceiling(g: Tensor, x: Tensor) -> Tensor:
        left = x.floor().long().clamp(0, 4)
        # Of the values that are tried, 2 is a whole number that was not given and no threshold of an activation.
        right = torch.where((x - 2).abs() > 0.1, left + 1, x.ceil().long().clamp(0, 5))
        return g * (table[right] - table[left])

    positions = torch.tensor([1.6, 2.2, 2.8, 3.4], dtype=torch.float64)
    context = CheckContext()
    assert {r.verdict for r in CONTRACTS["special_values"](as_subject(interpolated, positions), context)} == {
        Verdict.CORRECT
    }
    wrong = CONTRACTS["special_values"](as_subject(function(interpolated, by_ceiling), positions), context)
    assert any(r.verdict is Verdict.FRAGILE and "at whole numbers" in str(r.reason) for r in wrong), wrong
