"""Gradients that are missing, NaN or infinite where there is a derivative, or a kink with one to either side."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify import CheckResult, Report, Verdict, check
from tests.functions import draw, function

DOUBLE = torch.float64
SOME = torch.tensor([1.0, 0.0, -2.0], dtype=DOUBLE)
ZEROS = torch.zeros(3, dtype=DOUBLE)

product = function(lambda x, w: x * w, lambda g, x, w: (g * w, None))
absolute = function(torch.abs, lambda g, x: g * x / x.abs())
length = function(lambda x: x.norm(), lambda g, x: g * x / x.norm())


def gradient(subject: object, *inputs: object, **options: Any) -> dict[str | None, CheckResult]:
    return {result.tensor: result for result in check(subject, *inputs, checks="gradient", **options).results}


def noted(report: Report) -> str:
    return " ".join(report.notes)


def pair() -> tuple[Callable[..., Any], Callable[..., Any]]:
    return lambda x, w: (x * w, (x, w)), lambda dy, cache: (dy * cache[1], None)


@pytest.mark.parametrize(
    ("subject", "inputs"),
    [
        (product, (draw(3), draw(3, seed=1))),
        (pair(), (draw(3).numpy(), draw(3, seed=1).numpy())),
        (lambda x, w: x * w.detach(), (draw(3), draw(3, seed=1))),
    ],
    ids=["function", "arrays", "detached"],
)
def test_a_gradient_that_nobody_returned_is_forgotten_where_the_output_changes(
    subject: object, inputs: tuple[object, ...]
) -> None:
    x, w = gradient(subject, *inputs).values()
    assert (x.verdict, w.verdict) == (Verdict.CORRECT, Verdict.WRONG)
    assert "is forgotten: it is None" in str(w.diagnosis)
    assert "leave it out of differentiable=" in str(w.reason)


def test_what_the_output_does_not_change_with_needs_no_gradient() -> None:
    doubled = function(lambda x, k: 2 * x, lambda g, x, k: (2 * g, None))
    stepped = function(lambda x, k: 2 * x + k.round(), lambda g, x, k: (2 * g, None))
    for subject in (doubled, stepped):
        found = gradient(subject, draw(3), draw(3, seed=1))
        assert found["k"].verdict is Verdict.NOT_APPLICABLE


def test_a_constant_is_declared_by_leaving_it_out() -> None:
    report = check(product, draw(3), draw(3, seed=1), differentiable=["x"])
    assert report.passed, str(report)
    assert "no gradient is looked at for w: not among differentiable=" in noted(report)
    report = check(product, draw(3).requires_grad_(), draw(3, seed=1), checks="gradient")
    assert "no gradient is looked at for w: other inputs require grad" in noted(report)


def test_whatever_is_not_looked_at_is_named() -> None:
    module = torch.nn.Linear(3, 2).double()
    module.bias.requires_grad_(False)
    assert "no gradient is looked at for bias" in noted(check(module, draw(4, 3), checks="gradient"))
    complex_ = torch.complex(draw(3), draw(3, seed=1))
    noted_of_both = noted(check(lambda x, z: x * z.abs(), draw(3).requires_grad_(), complex_, checks="gradient"))
    assert "no gradient is looked at for z: other inputs require grad" in noted_of_both


@pytest.mark.parametrize(
    ("subject", "x", "entries"),
    [(absolute, SOME, "1 of 3 entries"), (length, ZEROS, "3 of 3 entries"), (absolute, SOME.float(), "1 of 3 entries")],
    ids=["absolute value", "norm", "float32"],
)
def test_nan_at_a_kink_that_was_given_is_wrong(subject: object, x: Tensor, entries: str) -> None:
    (result,) = gradient(subject, x).values()
    assert result.verdict is Verdict.WRONG
    assert f"is NaN in {entries}, where the function has a kink" in str(result.diagnosis)
    assert result.mismatch is not None and np.isnan(result.mismatch.analytic)


def test_nan_in_the_distance_of_equal_points_is_wrong() -> None:
    def distances(a: Tensor, b: Tensor) -> Tensor:
        return (a[:, None] - b[None]).square().sum(-1).sqrt()

    points = draw(3, 2)
    a, b = gradient(distances, points, points.clone()).values()
    assert a.verdict is b.verdict is Verdict.WRONG
    assert check(torch.cdist, points, points.clone(), checks="gradient").passed


def test_nan_at_a_kink_that_nobody_gave_is_a_limit() -> None:
    report = check(absolute, draw(3))
    assert report.passed, str(report)
    assert any("not finite at a kink" in str(r.reason) for r in report.results if r.verdict is Verdict.LIMIT)


def test_a_number_between_the_one_sided_derivatives_stays_right() -> None:
    assert check(torch.abs, SOME, checks="gradient").passed
    assert check(lambda x: x.norm(), ZEROS, checks="gradient").passed


def test_nan_where_there_is_a_derivative_is_wrong() -> None:
    (result,) = gradient(lambda x: torch.where(x == 0, 1.0, x.sin() / x), SOME).values()
    assert result.verdict is Verdict.WRONG
    assert "where the true one is finite" in str(result.diagnosis)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("function", [torch.acos, torch.asin])
def test_an_infinite_slope_at_the_edge_of_the_domain_is_not_called_wrong(
    function: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    # At an entry of 1 that moves by its own size, steps below a rounding stay inside the domain, and move nothing.
    (result,) = gradient(function, torch.ones(3, dtype=dtype)).values()
    assert result.verdict is Verdict.UNDECIDED


def test_with_nan_in_a_gradient_nothing_else_is_compared() -> None:
    verdicts = {result.check: result.verdict for result in check(absolute, SOME).results}
    assert verdicts["gradient"] is Verdict.WRONG
    assert Verdict.UNDECIDED not in verdicts.values()
