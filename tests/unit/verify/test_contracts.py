"""What the contract checks say: reasons, details and options."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nn_from_scratch.verify.contracts import CONTRACTS
from nn_from_scratch.verify.results import CheckContext, CheckResult, Verdict
from nn_from_scratch.verify.subjects import as_subject

X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
W = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def run(name: str, subject: Any, *inputs: Any, **options: Any) -> CheckResult:
    found = CONTRACTS[name](as_subject(subject, *inputs), CheckContext(options=options))
    return found if isinstance(found, CheckResult) else found[0]


@pytest.mark.parametrize(
    ("name", "subject", "reason"),
    [
        ("reference_value", torch.sin, "no reference was given"),
        ("accumulation", torch.sin, "the gradients are returned"),
        ("missing_cotangent", torch.sin, "one differentiable output"),
        ("frozen_slots", torch.sin, "one differentiable tensor"),
        ("copies", torch.sin, "no state to copy"),
        ("batch_consistency", lambda x: x / x.sum(), "does not treat dimension 0"),
        ("cotangent_layouts", torch.sum, "one layout"),
        ("two_forwards", (np.sin, lambda dy: dy), "remembers one forward pass"),
        ("tensor_used_twice", (lambda x: (x, None), lambda dy, cache: dy), "nothing sums"),
        ("other_device", (np.sin, lambda dy: dy), "lives on the CPU"),
    ],
)
def test_a_check_that_does_not_apply_says_why(name: str, subject: Any, reason: str) -> None:
    result = run(name, subject, X.numpy() if isinstance(subject, tuple) else X)
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert reason in (result.reason or "")


def test_a_reference_gets_inputs_and_parameters() -> None:
    module = nn.Linear(5, 3).double()
    assert run("reference_value", module, X, reference=F.linear).verdict is Verdict.CORRECT
    result = run("reference_value", module, X, reference=lambda x, w, b: F.linear(x, w))
    assert result.verdict is Verdict.WRONG
    assert result.mismatch is not None
    assert result.mismatch.total == 12


def test_a_random_forward_is_undecided() -> None:
    result = run("determinism", lambda x: x * torch.rand_like(x), X)
    assert result.verdict is Verdict.UNDECIDED
    assert "nondeterministic: two identical forward passes differ" in (result.reason or "")


def test_a_tolerance_for_nondeterminism_is_stated() -> None:
    class Shaky(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return g * (1 + 1e-8 * torch.rand_like(g))

    assert run("determinism", Shaky, X).verdict is Verdict.WRONG
    result = run("determinism", Shaky, X, nondeterminism=1e-6)
    assert result.verdict is Verdict.CORRECT
    assert "1e-06 of the largest entry" in str(result.details["tolerance"])


def test_the_batched_inputs_are_found() -> None:
    result = run("batch_consistency", F.linear, X, W)
    assert (result.verdict, result.details["batched"]) == (Verdict.CORRECT, ["input0"])


def test_a_single_sample_is_extended() -> None:
    assert run("batch_consistency", F.linear, X[:1], W).verdict is Verdict.CORRECT


def test_a_forward_that_refuses_a_layout_is_reported_and_not_accused() -> None:
    def particular(x: Tensor) -> Tensor:
        if not x.is_contiguous():
            raise ValueError("contiguous tensors only")
        return x.sin()

    result = run("input_layouts", particular, X)
    assert result.verdict is Verdict.UNDECIDED
    assert "contiguous tensors only" in (result.reason or "")


def test_a_gradient_that_is_the_cotangent_is_said() -> None:
    result = run("no_aliasing", (lambda a, b: (a + b, None), lambda dy, cache: (dy, dy)), X.numpy(), X.numpy() + 1)
    assert result.verdict is Verdict.CORRECT
    assert "is (a view of) the cotangent" in (result.reason or "")


def test_low_precision_says_what_it_skipped() -> None:
    result = run("low_precision", (lambda x: x**2, lambda dy: dy), X.numpy())
    assert "bfloat16" in str(result.details["not run"])


def test_results_do_not_depend_on_other_tensors() -> None:
    alone = run("linear_cotangent", torch.sin, X)
    assert run("linear_cotangent", torch.sin, X) == alone
