"""What a gradient may not be called wrong by, and what is no excuse."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify import Verdict, check
from tests.bench.random_expressions import FAULTS, compose, planted_fault
from tests.functions import draw, function


def spread_of_equal_entries(x: Tensor) -> Tensor:
    """The standard deviation of entries that differ by rounding alone."""
    return ((x - x.mean(-1, keepdim=True)) - x).std(-1)


def fast_oscillation(x: Tensor, y: Tensor) -> Tensor:
    """About 10**10 oscillations within the size of its inputs."""
    value = torch.sinc(F.mse_loss(x, y))
    return torch.where(value > 0, value, 0.1 * value.square())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("subject", "shapes", "size"),
    [
        (spread_of_equal_entries, ((5,),), 6e3),
        (fast_oscillation, ((3, 1), (3, 1)), 8e4),
        (lambda x, w: F.layer_norm(x @ x.mT, (1,), w).tanh() + x.sum(), ((1, 3), (1,)), 1e5),
    ],
    ids=["spread of equal entries", "fast oscillation", "weight of a norm of one entry"],
)
def test_what_rounding_makes_of_a_gradient_is_not_wrong(
    subject: Callable[..., Tensor], shapes: tuple[tuple[int, ...], ...], size: float, seed: int
) -> None:
    inputs = [size * draw(*shape, seed=10 * seed + place) for place, shape in enumerate(shapes)]
    report = check(subject, *inputs, checks="gradient")
    assert report.verdict is not Verdict.WRONG, str(report)


@pytest.mark.parametrize("number", [1313, 2882, 2893, 3397])
def test_a_fault_in_a_gradient_far_smaller_than_its_cotangent_is_wrong(number: int) -> None:
    expression = compose(number)
    planted = planted_fault(expression, FAULTS["one entry"])
    report = check(planted, *expression.inputs.values(), names=list(expression.inputs), checks="gradient")
    assert report.verdict is Verdict.WRONG


def test_a_mask_that_fails_at_equal_operands_alone_is_wrong_there() -> None:
    def masked(g: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        apart = g * (x != y)
        return apart * torch.sigmoid(x - y), apart * torch.sigmoid(y - x)

    x = draw(6)
    report = check(function(torch.logaddexp, masked), x, x.clone(), checks="gradient")
    assert {r.reason for r in report.results} == {"the gradient is right at points nearby, and wrong at this one"}
