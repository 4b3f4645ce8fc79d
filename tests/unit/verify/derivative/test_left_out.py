"""What a gradient cannot be verified for: digits that the outputs do not have, entries that are not finite, jumps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify import Verdict, check
from tests.functions import draw, function
from tests.unit.verify.derivative.test_gradients import only


def cast(dtype: torch.dtype, factor: float) -> Callable[..., Tensor]:
    return function(lambda x: x.to(dtype), lambda g, x: factor * g.to(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_cast_to_few_digits_is_right_as_far_as_they_go(dtype: torch.dtype) -> None:
    for seed in range(4):
        result = only(cast(dtype, 1.0), draw(2, 3, seed=seed))
        assert result.verdict is Verdict.CORRECT, result
        assert result.resolution is not None and result.resolution < 0.04
    assert check(lambda x: x.to(dtype), draw(2, 3)).passed


def test_how_far_they_go_is_said() -> None:
    result = only(cast(torch.bfloat16, 1.0), draw(2, 3, 2, 3))
    assert (result.reason or "").startswith("the outputs are in bfloat16: the gradient agrees to 2.")


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.9, 2.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_wrong_gradient_of_a_cast_is_never_right(dtype: torch.dtype, factor: float) -> None:
    for seed in range(4):
        for shape in ((), (2, 3), (2, 3, 2, 3)):
            result = only(cast(dtype, factor), draw(*shape, seed=seed))
            assert result.verdict in (Verdict.WRONG, Verdict.UNDECIDED), result


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_complex_halves_are_no_error() -> None:
    assert check(lambda x: x.to(torch.complex32), draw(2, 3)).passed


def with_gaps() -> Tensor:
    x = draw(3, 4)
    x[0] = -float("inf")
    x[1, 2] = float("nan")
    return x


def test_entries_that_are_not_finite_are_left_out() -> None:
    right = only(torch.nansum, with_gaps().nan_to_num(nan=float("nan"), neginf=1.0))
    assert right.verdict is Verdict.CORRECT
    assert right.reason == "1 of 12 entries of the tensor are not finite and were left out"
    masked = with_gaps().nan_to_num(0.5, neginf=-float("inf"))
    softmax = only(lambda x: torch.ops.aten._safe_softmax.default(x, -1), masked)
    assert softmax.verdict is Verdict.CORRECT
    nothing = only(torch.nansum, torch.full((3,), float("nan"), dtype=torch.float64))
    assert nothing.verdict is Verdict.UNDECIDED


def test_the_others_are_verified() -> None:
    x = draw(3, 4)
    x[1, 2] = float("nan")
    wrong = function(torch.nansum, lambda g, x: 1.001 * g * x.isfinite())
    assert only(wrong, x).verdict is Verdict.WRONG
    # A NaN where the input is one says nothing; elsewhere it does.
    assert only(function(torch.nansum, lambda g, x: g * torch.where(x.isnan(), x, 1.0)), x).verdict is Verdict.CORRECT
    spread = function(torch.nansum, lambda g, x: g * torch.where(x == x[0, 0], torch.nan, 1.0))
    assert only(spread, x).verdict is Verdict.WRONG


def test_a_forward_that_jumps_has_no_derivative_to_verify() -> None:
    target = torch.tensor([1.0, -1, 1, -1, 1], dtype=torch.float64).requires_grad_()
    inputs = [draw(5, 5, seed=seed).requires_grad_() for seed in range(2)]
    report = check(torch.nn.functional.cosine_embedding_loss, *inputs, target)
    assert report.passed, report
    (jump,) = (r for r in report.results if r.check == "gradient" and "jumps here" in str(r.reason))
    assert jump.verdict is Verdict.NOT_APPLICABLE
