from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.complexstep import check_complex_step
from nn_from_scratch.verify.results import CheckResult, Verdict
from nn_from_scratch.verify.subjects import as_subject
from tests.functions import altered, draw


def results(subject: object, *inputs: Tensor) -> list[CheckResult]:
    return check_complex_step(as_subject(subject, *inputs), CheckContext())


@pytest.mark.parametrize("function", [torch.tanh, lambda x: F.unfold(x, 2), lambda x: x @ x.mT])
def test_analytic_forwards_agree_to_rounding(function: Any) -> None:
    (result,) = results(function, draw(1, 2, 4, 4))
    assert result.verdict is Verdict.CORRECT
    assert result.resolution is not None and result.resolution < 1e-11


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.CORRECT), (1 + 1e-9, Verdict.WRONG)])
def test_a_relative_error_of_a_billionth_is_seen(factor: float, verdict: Verdict) -> None:
    (result,) = results(altered(torch.sigmoid, lambda g: factor * g), draw(9))
    assert result.verdict is verdict


def test_a_forward_that_takes_no_complex_input_does_not_apply() -> None:
    (result,) = results(F.gelu, draw(5))
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert "takes no complex input" in (result.reason or "")


@pytest.mark.parametrize("function", [lambda x: x.abs() * 2, lambda x: (x * x.conj()).real, lambda x: x.conj() * 1.0])
def test_a_forward_that_is_not_analytic_is_not_reported_wrong(function: Any) -> None:
    (result,) = results(function, draw(5))
    assert result.verdict is Verdict.NOT_APPLICABLE


def test_tensors_without_entries_do_not_apply() -> None:
    (result,) = results(torch.tanh, torch.empty(0))
    assert result.verdict is Verdict.NOT_APPLICABLE


def off_by(epsilon: float) -> Any:
    """A value so large that finite differences keep few digits of the derivative, and a gradient that is off."""
    return altered(lambda x: 1e6 + x.sin(), lambda g: g * (1 + epsilon))


def test_digits_that_rounding_takes_are_a_limit() -> None:
    # cos(πx)/x - sin(πx)/(πx²) is a difference of two large numbers.
    (result,) = results(torch.sinc, 1e-3 * draw(4))
    assert result.verdict is Verdict.LIMIT
    assert (result.reason or "").startswith("rounding takes digits of the gradient of input0: it is off by ")


def test_an_error_that_is_the_same_nearby_stays_undecided_where_finite_differences_cannot_confirm_it() -> None:
    (result,) = results(off_by(1e-9), draw(4))
    assert (result.verdict, result.reason) == (
        Verdict.UNDECIDED,
        "the complex step disagrees by less than finite differences can confirm",
    )
    assert results(off_by(0.0), draw(4))[0].verdict is Verdict.CORRECT
