"""At zeros, ties, thresholds and saturation, a right subject is not accused of what the point is to blame for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify import check
from nn_from_scratch.verify.contracts.special import of_same_kind
from nn_from_scratch.verify.results import CheckResult, Verdict
from tests.functions import draw, function

X = draw(4, 5)


def look(subject: Callable[..., Any], *inputs: Tensor, **options: Any) -> list[CheckResult]:
    return list(check(subject, *inputs, checks="special_values", **options).results)


def staircase(x: Tensor) -> Tensor:
    return torch.minimum(torch.where(x > 0, x, 0.1 * x.square()), x)


RIGHT: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "a polar angle, at the origin": (torch.atan2, (X, draw(4, 5, seed=1))),
    "singular values and vectors, at equal entries": (torch.linalg.svd, (draw(3, 3),)),
    "a triangle, at rank one": (lambda x: torch.linalg.qr(x).R, (draw(2, 2, 5),)),
    "least squares, at rank one": (lambda a, b: torch.linalg.lstsq(a, b).solution, (draw(3, 2), draw(3, 2, seed=1))),
    "a normalized vector, where an epsilon decides": (lambda x: F.normalize(F.mish(x), dim=-1), (X,)),
    "between two poles": (torch.lgamma, (draw(1),)),
    "two kinks that meet": (staircase, (X,)),
    "ties of a running maximum in a sum": (lambda x, w: x.mean(0).cummax(0).values @ w, (draw(2, 5), draw(5, 3))),
    "sorted ties": (torch.sort, (draw(40),)),
    "a loss that rounds to zero": (lambda x: x.logsumexp(-1) - x[..., 0], (X,)),
    "a gradient that is there where the value has underflowed": (lambda x: (1 + x.exp()).log(), (X,)),
    "zeros through a product with zero": (lambda x: 0 * x.abs(), (X,)),
    "a gradient whose square overflows": (
        lambda x, b: (x / 3.5 + b).exp(),
        (torch.tensor([[-2.0], [-4.0], [-1.5], [2.0]], dtype=torch.float64), draw(1)),
    ),
    "a slope without end": (lambda x: x.abs().sqrt(), (X,)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_function_is_not_accused(name: str) -> None:
    subject, inputs = RIGHT[name]
    found = look(subject, *inputs)
    assert {result.verdict for result in found} <= {Verdict.CORRECT, Verdict.LIMIT, Verdict.NOT_APPLICABLE}, found


def test_a_gradient_that_overflows_inside_is_a_limit() -> None:
    found = look(lambda x: torch.expm1(-x.exp()), X)
    reasons = [result.reason for result in found if result.verdict is not Verdict.CORRECT]
    assert reasons == ["for x with entries of size 2000 the gradient of x is not finite"]


def test_conventions_of_pytorch_are_no_fault_by_any_way_into_the_check() -> None:
    assert check(staircase, X, checks="special_values").verdict is Verdict.CORRECT


def test_a_gradient_that_is_not_finite_at_a_kink_nobody_gave_is_a_limit() -> None:
    found = look(lambda x: x.square().sum().sqrt(), X)
    (limit,) = [result.reason or "" for result in found if result.verdict is Verdict.LIMIT]
    assert limit.startswith("for x with all entries zero") and "not finite" in limit


def sinc(x: Tensor) -> Tensor:
    return torch.where(x == 0, 1.0, x.sin() / x)


def test_a_gradient_that_is_not_finite_where_the_function_is_smooth_is_fragile() -> None:
    for subject in (sinc, function(torch.sin, lambda g, x: g * x.cos() * x / x)):
        (found,) = [r for r in look(subject, X, reference=subject) if r.verdict is Verdict.FRAGILE]
        assert (found.tensor, "with some entries zero" in (found.reason or "")) == ("x", True)


def test_where_all_of_the_backward_is_pytorchs_own_it_is_a_limit_without_a_reference() -> None:
    found = look(sinc, X)
    (limit,) = [r for r in found if r.verdict is Verdict.LIMIT and "not finite; " in str(r.reason)]
    assert (limit.reason or "").endswith("all of the backward is PyTorch's own")
    assert Verdict.FRAGILE not in {result.verdict for result in found}


def sigmoid_of(vjp: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    return function(torch.sigmoid, vjp)


FRAGILE: dict[str, Callable[..., Any]] = {
    "slope 2 at zero": function(torch.relu, lambda g, x: g * torch.where(x == 0, 2.0, (x > 0).to(x))),
    "another constant at zero": function(torch.sin, lambda g, x: g * torch.where(x == 0, 0.5, x.cos())),
    "not zero where it is saturated": sigmoid_of(
        lambda g, x: g * torch.where(x.abs() > 20, 1.0, x.sigmoid() * (1 - x.sigmoid()))
    ),
    "overflows": sigmoid_of(lambda g, x: g * (-x).exp() / (1 + (-x).exp()) ** 2),
}


@pytest.mark.parametrize("name", FRAGILE)
def test_what_is_wrong_at_a_valid_special_value_is_fragile(name: str) -> None:
    assert Verdict.FRAGILE in {result.verdict for result in look(FRAGILE[name], X)}


def test_a_forward_that_the_reference_contradicts_there_is_not_evidence() -> None:
    wrong_at_zero = FRAGILE["another constant at zero"]
    assert Verdict.FRAGILE in {r.verdict for r in look(wrong_at_zero, X, reference=torch.sin)}

    def other_at_zero(x: Tensor) -> Tensor:
        return torch.where(x == 0, 7.0, x.sin())

    assert Verdict.FRAGILE not in {r.verdict for r in look(wrong_at_zero, X, reference=other_at_zero)}


def of_symmetric(a: Tensor, b: Tensor) -> Tensor:
    """The backward takes the matrix for a symmetric one."""
    quadratic = function(lambda a, b: (b * (a @ b)).sum(0), lambda g, a, b: ((b * g) @ b.mT, 2 * (a @ b) * g))
    return quadratic(a, b)  # type: ignore[no-any-return]


def test_what_is_evident_of_an_input_is_kept() -> None:
    a = draw(4, 4)
    assert {r.verdict for r in look(of_symmetric, a @ a.mT, draw(4, 2))} == {Verdict.CORRECT}
    assert Verdict.FRAGILE not in {r.verdict for r in look(torch.log, draw(4, 5).abs() + 0.1)}
    given = draw(3, 3) + draw(3, 3).mT
    kept = of_same_kind(given, draw(3, 3, seed=1))
    assert torch.equal(kept, kept.mT)
    shares = of_same_kind(draw(4, 5).softmax(-1), draw(4, 5, seed=1))
    assert bool((shares >= 0).all()) and torch.allclose(shares.sum(-1), torch.ones(4, dtype=torch.float64))
    other = draw(4, 5, seed=1)
    assert torch.equal(of_same_kind(draw(4, 5), other), other)


def test_all_checks_of_a_norm_at_ordinary_values_pass() -> None:
    assert check(lambda x: x.norm(dim=-1), X).passed
