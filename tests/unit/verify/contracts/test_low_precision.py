"""What rounding explains in a low dtype: cancellation, one more rounding, a tie that tips; not a sum in few digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify import CheckContext, CheckResult, Verdict, as_subject
from nn_from_scratch.verify.contracts import CONTRACTS
from nn_from_scratch.verify.contracts.baseline_pass import baseline_pass
from nn_from_scratch.verify.contracts.constants import ADDED_ROUNDINGS
from nn_from_scratch.verify.contracts.single_roundings import SingleRoundings
from tests.functions import draw, function


def low_precision(subject: Any, *inputs: Any) -> list[CheckResult]:
    return CONTRACTS["low_precision"](as_subject(subject, *inputs), CheckContext())


def own_layer_norm(x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5).sqrt()


def nearly_off(x: Tensor) -> Tensor:
    return (x @ torch.ones(3, 1, dtype=x.dtype)).relu()


RIGHT: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "softmax of one entry": (lambda x: x.softmax(-1), (draw(3, 1),)),
    "softmax of large entries": (lambda x: x.softmax(1), (5 * draw(2, 3, 4),)),
    "safe softmax": (lambda x: torch.ops.aten._safe_softmax(x, 1), (5 * draw(2, 3, 4),)),
    "own layer norm over one entry": (own_layer_norm, (draw(3, 1),)),
    "normalize over one entry": (lambda x: F.normalize(x, dim=1), (draw(5, 1),)),
    "matrix exponential": (torch.matrix_exp, (2 * draw(5, 5),)),
    "attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        (5 * draw(4, 3, 8), 5 * draw(4, 6, 8, seed=1), 5 * draw(4, 6, 8, seed=2)),
    ),
    "grid sample": (lambda x, g: F.grid_sample(x, g, align_corners=False), (draw(2, 3, 5, 5), draw(2, 4, 4, 2))),
    "logcumsumexp": (lambda x: x.logcumsumexp(0), (2 * draw(20),)),
    "sinc near zero": (torch.sinc, (1e-3 * draw(5),)),
    "saturated tanh": (lambda x, w: (x @ w).tanh(), (8 * draw(4, 4), draw(4, 3))),
    "forty layers": (lambda x: [x := torch.tanh(1.1 * x) for _ in range(40)][-1], (draw(4, 8),)),
    "a relu that rounding turns off": (nearly_off, (torch.tensor([[1.0, 2.0**-11, -1.0]], dtype=torch.float64),)),
    "a largest entry that rounding exchanges": (
        lambda x: torch.lerp(x.norm(1, -3).cummax(1).values, x, 0.3).topk(1, -1).values,
        (2e-3 * draw(4, 5, 2),),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_is_within_what_rounding_explains(name: str) -> None:
    subject, inputs = RIGHT[name]
    assert [str(r) for r in low_precision(subject, *inputs) if r.verdict is not Verdict.CORRECT] == []


def row_by_row(g: Tensor, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    total = torch.zeros_like(b)
    for row in g:
        total = total + row
    return g, total


def ties_counted_one_by_one(g: Tensor, x: Tensor) -> Tensor:
    tied = (x == x.amax()).to(x)
    count = torch.zeros((), dtype=x.dtype)
    for one in tied:
        count = count + one
    return g * tied / count


FRAGILE: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], str, str]] = {
    "a sum of 600 rows": (function(lambda x, b: x + b, row_by_row), (draw(600, 2), draw(2)), "b", "bfloat16"),
    "a count of 300 ties": (
        function(lambda x: x.amax(), ties_counted_one_by_one),
        (torch.ones(300, dtype=torch.float64),),
        "x",
        "bfloat16",
    ),
    "a factor": (
        function(torch.sin, lambda g, x: g * x.cos() * (1.01 if x.dtype == torch.float32 else 1)),
        (draw(9),),
        "x",
        "float32",
    ),
}


@pytest.mark.parametrize("name", FRAGILE)
def test_what_a_dtype_has_too_few_digits_for_is_found(name: str) -> None:
    subject, inputs, tensor, dtype = FRAGILE[name]
    (found,) = (r for r in low_precision(subject, *inputs) if r.verdict is Verdict.FRAGILE)
    assert found.tensor == tensor
    assert f"the {dtype} gradient differs from the float64 one" in (found.reason or "")


def test_a_sum_in_float32_inside_of_bfloat16_is_right() -> None:
    def in_float32(g: Tensor, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return g, g.float().sum(0).to(g) if g.dtype == torch.bfloat16 else g.sum(0)

    results = low_precision(function(lambda x, b: x + b, in_float32), draw(400, 2), draw(2))
    assert {r.verdict for r in results} == {Verdict.CORRECT}


def test_a_result_that_leaves_the_range_is_a_limit() -> None:
    found = low_precision(torch.asinh, 3e4 * draw(4))
    assert [r.verdict for r in found] == [Verdict.CORRECT, Verdict.LIMIT]
    assert found[1].reason == "in float16 a result inside leaves the range of the dtype, which spoils input0"


def test_an_error_that_is_another_one_at_neighboring_inputs_is_a_limit() -> None:
    # Over one entry the true gradient is zero, and the kernel's is what rounding leaves of a difference of large terms.
    found = low_precision(lambda x, w, b: F.layer_norm(x, (1,), w, b), draw(1), draw(1), draw(1, seed=1))
    assert {r.verdict for r in found} == {Verdict.CORRECT, Verdict.LIMIT}
    assert all(
        "rounding takes the digits of the gradient of" in (r.reason or "") for r in found if r.verdict is Verdict.LIMIT
    )


def roundings(subject: Any, *inputs: Tensor) -> SingleRoundings:
    ready, context = as_subject(subject, *inputs), CheckContext()
    return SingleRoundings(ready, baseline_pass(ready, context), context, torch.bfloat16)


def test_roundings_of_backward_and_forward_results_are_seen_and_of_views_are_not() -> None:
    # The copies of the inputs, the product, and in the backward both products.
    assert (
        roundings(lambda x, y: (x * y).T, draw(2, 3), draw(2, 3)).count == roundings(torch.mul, draw(2), draw(2)).count
    )


def test_only_the_largest_contributions_add_up() -> None:
    def repeated(x: Tensor) -> Tensor:
        for _ in range(40):
            x = x + 0.1
        return x.sum()

    few, many = roundings(lambda x: (x + 0.1).sum(), draw(5)), roundings(repeated, draw(5))
    single = few.explain("output y")
    assert 0 < single < many.explain("output y") < 2 * ADDED_ROUNDINGS**0.5 * 5 * single


def test_a_result_that_the_dtype_holds_does_not_move_and_tips_nothing() -> None:
    ties = torch.ones(8, dtype=torch.float64)
    found = roundings(lambda x: torch.where(x == x.amax(), 2 * x, 3 * x), ties)
    assert found.explain("input0") < 0.1
