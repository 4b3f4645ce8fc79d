"""Experiments for the name of a fault: how many forward passes they take, and when the search for a name ends."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.verify import Verdict, check
from nn_from_scratch.verify.context import Budget
from nn_from_scratch.verify.results import CheckResult
from tests.functions import draw

W = draw(8, 8, seed=1)


def _spoiled(x: Tensor, v: Tensor, used: Tensor, noise: float = 0.0, **options: Any) -> tuple[CheckResult, int]:
    """The gradient of x in y = sin(x v) W with `used` in place of v, and how often the forward was called."""
    calls = 0

    def forward(x: Tensor, v: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        nonlocal calls
        calls += 1
        return torch.sin(x @ v) @ W, (x, v)

    def backward(g: Tensor, cache: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, v = cache
        inner = g @ W.T
        dx = (inner * torch.cos(x @ used)) @ used.T + noise * draw(*x.shape, seed=5)
        return dx, x.T @ (inner * torch.cos(x @ v))

    report = check((forward, backward), x, v, checks="gradient", names=["x", "v"], **options)
    (wrong,) = (result for result in report.results if result.verdict is Verdict.WRONG)
    return wrong, calls


def test_a_fault_that_only_an_experiment_shows_has_its_name() -> None:
    v = draw(8, 8, seed=2)
    wrong, _ = _spoiled(draw(8, 8), v, v.T)
    assert wrong.details["diagnosis_kind"] == "operand-transposed", wrong.diagnosis


def test_experiments_that_explain_nothing_take_a_few_forward_passes_each() -> None:
    v = draw(8, 8, seed=2)
    _, without = _spoiled(draw(8, 8), v, v, noise=0.1, naming_seconds=0)
    wrong, calls = _spoiled(draw(8, 8), v, v, noise=0.1)
    assert wrong.diagnosis is None
    # There are about thirty of them; a whole numerical gradient takes about a thousand passes.
    assert 100 < calls - without < 1000


def test_the_search_for_a_name_says_that_it_was_stopped() -> None:
    v = draw(8, 8, seed=2)
    wrong, _ = _spoiled(draw(8, 8), v, v.T, naming_seconds=0)
    assert wrong.diagnosis == "The search for a name stopped after 0.0 s of CPU time."
    assert "diagnosis_kind" not in wrong.details


def test_a_name_that_needs_no_experiment_is_given_without_time() -> None:
    report = check((lambda x: (x.sin(), x), lambda g, x: -g * x.cos()), draw(8), checks="gradient", naming_seconds=0)
    assert "has the wrong sign." in str(report) and "stopped" not in str(report)


def test_a_budget_is_what_is_left_after_several_goes() -> None:
    budget = Budget(1.0)
    with budget.spending():
        sum(range(10_000))
        assert 0 < budget.left < 1
    left = budget.left
    assert left == budget.left == 1 - budget.spent
    with budget.spending():
        sum(range(10_000))
    assert budget.left < left
