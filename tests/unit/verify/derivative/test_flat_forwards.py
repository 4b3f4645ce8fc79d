"""Forwards that do not move: saturated, piecewise constant, or moving by less than their rounding."""

from collections.abc import Callable
from itertools import count

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify import Verdict, check
from tests.functions import draw, function

FAR = torch.tensor([[40.0, 3.0, 2.0]], dtype=torch.float64)
FAR_APART = torch.tensor([[4321.123], [-3210.321], [6543.789], [2345.654]], dtype=torch.float64)


def rounded(x: Tensor) -> Tensor:
    return (x * 1000).round() / 1000


@pytest.mark.parametrize(
    ("subject", "inputs"),
    [
        (lambda x: x.logsumexp(-1) - x[..., 0], (FAR,)),
        (lambda x: F.cross_entropy(x, torch.tensor([0]), reduction="none"), (FAR,)),
        (lambda x, w, b: F.layer_norm(x, (1,), w, b), (draw(1), draw(1, seed=1), draw(1, seed=2))),
        (lambda x, w, b: F.layer_norm(x, (1,), w, b), (FAR_APART, draw(1, seed=1), draw(1, seed=2))),
        (lambda x, w, b: F.layer_norm(x[:1].expand(2, 3), (3,), w, b), (FAR_APART[1], draw(3), draw(3, seed=2))),
        (rounded, (draw(5, 4),)),
        (rounded, (draw(5, 4) * 2000,)),
    ],
    ids=[
        "saturated",
        "cross entropy",
        "norm of one entry",
        "norm of one large entry",
        "norm of equal entries",
        "steps",
        "steps as fine as float32",
    ],
)
def test_a_gradient_that_cannot_be_seen_in_the_output_is_right(
    subject: Callable[..., Tensor], inputs: tuple[Tensor, ...]
) -> None:
    found = check(subject, *inputs, checks="gradient,complex_step").results
    assert {r.verdict for r in found if r.check == "gradient"} == {Verdict.CORRECT}, [str(r) for r in found]
    assert Verdict.UNDECIDED not in {r.verdict for r in found}, [str(r) for r in found]


@pytest.mark.parametrize(
    ("forward", "verdict"),
    [
        (lambda x: x.float() * 2, Verdict.WRONG),
        (lambda x: x.bfloat16().double() * 2, Verdict.UNDECIDED),
        (lambda x: rounded(x) + 1e-3 * x, Verdict.WRONG),
    ],
    ids=["float32", "bfloat16", "steps on a slope"],
)
def test_a_gradient_of_zero_is_not_right_because_of_rounding(
    forward: Callable[[Tensor], Tensor], verdict: Verdict
) -> None:
    (result,) = check(function(forward, lambda g, x: 0 * x), draw(5, 4), checks="gradient").results
    assert result.verdict is verdict, str(result)


def test_a_gradient_is_wrong_where_the_output_does_not_move_and_it_says_otherwise() -> None:
    scaled = function(lambda x: rounded(x), lambda g, x: g)
    (result,) = check(scaled, draw(5, 4), checks="gradient").results
    assert result.verdict is not Verdict.CORRECT
    far = function(lambda x: x.logsumexp(-1) - x[..., 0], lambda g, x: 1e-9 * g[..., None] * x)
    (result,) = check(far, FAR, checks="gradient").results
    assert result.verdict is Verdict.WRONG, str(result)


@pytest.mark.parametrize(("noise", "verdict"), [(1e-15, Verdict.CORRECT), (1e-6, Verdict.UNDECIDED)])
def test_two_forwards_may_differ_by_rounding(noise: float, verdict: Verdict) -> None:
    calls = count()
    noisy = function(lambda x: x * (1 + noise * (next(calls) % 2)), lambda g, x: g)
    (result,) = check(noisy, draw(5, 4), checks="determinism").results
    assert result.verdict is verdict, str(result)


def test_a_gradient_of_a_constant_output_is_wrong_where_rounding_does_not_explain_it() -> None:
    subject = function(lambda x: 0 * x + 1, lambda g, x: 1e-9 * g)
    (result,) = check(subject, FAR_APART, checks="gradient").results
    assert result.verdict is Verdict.WRONG, str(result)
