"""Initial values: the report's distribution, and a generator for them."""

from __future__ import annotations

import math

import pytest
import torch

import nn_from_scratch as nn


@pytest.mark.parametrize(
    ("layer", "fan"),
    [
        (lambda g: nn.Conv2d(8, 128, (3, 5), generator=g), 8 * 15),
        (lambda g: nn.Conv2d(8, 256, (3, 5), groups=4, generator=g), 2 * 15),
        (lambda g: nn.TransposeConv2d(64, 128, (3, 5), generator=g), 128 * 15),
        (lambda g: nn.TransposeConv2d(64, 128, (3, 5), groups=4, generator=g), 32 * 15),
        (lambda g: nn.Linear(50, 400, generator=g), 50),
    ],
)
def test_8_weights_and_biases_are_uniform_within_the_bound(layer: object, fan: int) -> None:
    assert callable(layer)
    module = layer(torch.Generator().manual_seed(0))
    bound = 1 / math.sqrt(fan)
    for values in (module.weight, module.bias):
        n = values.numel()
        assert values.abs().max() <= bound
        # Six standard errors of the mean and of the mean square of a uniform distribution.
        assert abs(values.mean()) < 6 * bound / math.sqrt(3 * n)
        assert abs((values / bound).square().mean() - 1 / 3) < 6 * math.sqrt(4 / 45 / n)


def test_8_a_generator_fixes_the_values_and_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    first, second = (nn.Conv2d(3, 4, 2, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(torch.get_rng_state(), before)
