"""Gradients at kinks, steps and edges that the finite differences there cannot settle alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify import check
from nn_from_scratch.verify.results import Verdict
from tests.functions import draw, function
from tests.unit.verify.derivative.test_gradients import only

DRAW = draw(12, seed=3)
ZEROS = torch.zeros(6, dtype=torch.float64)


def only_there(x: Tensor) -> Tensor:
    if not bool((x == 0).all()):
        raise ValueError("zeros alone")
    return x.abs()


def in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: forward(x.float()).double()


def times(value: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The backward of |x| that takes this for the derivative at 0."""
    return lambda g, x: torch.where(x == 0, value * g, g * x.sign())


CORRECT, WRONG, UNDECIDED = Verdict.CORRECT, Verdict.WRONG, Verdict.UNDECIDED
CASES: dict[str, tuple[Any, Tensor, Verdict, str]] = {
    "a forward that is never finite": (
        function(lambda x: x * float("nan"), lambda g, x: g),
        DRAW,
        UNDECIDED,
        "no entry of the output is finite here",
    ),
    "a forward that is defined at this point alone": (
        function(only_there, lambda g, x: g * 0),
        ZEROS,
        UNDECIDED,
        "on no segment around this point does the forward give finite outputs",
    ),
    "a vertical slope with a gradient": (
        function(lambda x: x.abs().sqrt(), lambda g, x: g * x.sign() / (2 * x.abs().sqrt()).clamp(min=1e-9)),
        ZEROS,
        UNDECIDED,
        "most outputs have no one-sided derivative here that settles (the gradient is right nearby)",
    ),
    "the edge of a domain": (
        function(torch.sqrt, lambda g, x: g / (2 * x.sqrt())),
        ZEROS,
        UNDECIDED,
        "6 of 6 entries of the gradient are not finite, where finite differences settle on no derivative either",
    ),
    "NaN at a kink": (
        function(torch.abs, lambda g, x: g * x / x.abs()),
        ZEROS,
        WRONG,
        "6 of 6 entries of the gradient are not finite at a kink, where the derivatives to either side are",
    ),
    "NaN where there is a derivative": (
        function(torch.sin, lambda g, x: (g * x.cos()).masked_fill(x == x[2], float("nan"))),
        DRAW,
        WRONG,
        "1 of 12 entries of the gradient are not finite; 1 of 12 entries differ (8.33 %); worst at [2]",
    ),
    "outputs that are not finite beside a kink": (
        function(lambda x: torch.cat([x.abs(), x / 0]), lambda g, x: g[:6] * x.sign()),
        ZEROS,
        UNDECIDED,
        "the output is not finite everywhere, and has a kink here",
    ),
    "a wrong gradient beside outputs that are not finite": (
        function(lambda x: torch.cat([x.sin(), x.log()]), lambda g, x: 2 * g[:6]),
        ZEROS,
        WRONG,
        "too large by a factor of 2",
    ),
    "a convention": (function(torch.abs, times(0.5)), ZEROS, CORRECT, ""),
    "no convention": (
        function(torch.abs, times(1.5)),
        ZEROS,
        WRONG,
        "100 % of the outputs have a kink here, and the gradient is not between the one-sided derivatives",
    ),
    "no convention, in one sum": (
        function(lambda x: x.abs().sum(), times(3.0)),
        ZEROS,
        WRONG,
        "the gradient is not between the one-sided derivatives",
    ),
    "no convention, where rounding hides how narrow the kink is": (
        function(in_float32(torch.abs), times(3.0)),
        ZEROS,
        UNDECIDED,
        "and the gradient is outside of the one-sided derivatives",
    ),
    "a kink in the middle of smooth entries, where rounding hides it": (
        function(in_float32(torch.relu), lambda g, x: torch.where(x == 0, -3 * g, g * (x > 0))),
        torch.cat([DRAW, ZEROS]),
        UNDECIDED,
        "33.3 % of the outputs have a kink here",
    ),
    "wrong at a smooth point alone": (
        function(torch.sin, lambda g, x: torch.where(x == 0, 3 * g, g * x.cos())),
        ZEROS,
        WRONG,
        "the gradient is right at points nearby, and wrong at this one",
    ),
    "wrong beside the kink": (
        function(torch.abs, lambda g, x: 2 * g * x.sign()),
        ZEROS,
        WRONG,
        "found at a point close by, as the function has a kink at this one",
    ),
    "wrong beside a kink in float32": (
        function(in_float32(torch.relu), lambda g, x: 2 * g * (x >= 0)),
        ZEROS,
        WRONG,
        "found at a point close by, as the function has a kink at this one",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_at_a_special_point_and_its_reason(name: str) -> None:
    subject, x, verdict, reason = CASES[name]
    result = only(subject, x)
    assert result.verdict is verdict, str(result)
    assert reason in str(result)


def test_a_disagreement_that_other_steps_do_not_confirm_lends_no_resolution() -> None:
    # It oscillates 1e11 times within the smallest step, where the slope seems to be 0, here and nearby.
    x = torch.tensor([1487254.625, -735733.6875])
    (result,) = check(lambda x: torch.sinc(0.1 * x.square())[1:], x, checks="gradient").results
    assert result.verdict is Verdict.UNDECIDED and (result.resolution or 0.0) > 0.1, str(result)
