"""Dropout: seeds, modes, frequency, misuse."""

from __future__ import annotations

import copy

import pytest
import torch

import nn_from_scratch as nn
from nn_from_scratch.errors import ArgumentError


def seeded(p: float = 0.5) -> nn.Dropout:
    return nn.Dropout(p, generator=torch.Generator().manual_seed(4))


def test_a_seed_gives_the_same_masks_and_each_pass_another() -> None:
    x = torch.ones(50)
    first, second = seeded(), seeded()
    drawn = first(x)
    assert torch.equal(drawn, second(x))
    assert not torch.equal(first(x), drawn)


def test_the_global_generator_gives_the_masks_of_torch() -> None:
    x = torch.randn(100)
    torch.manual_seed(3)
    mine = nn.Dropout(0.3)(x)
    torch.manual_seed(3)
    assert torch.equal(mine, torch.nn.functional.dropout(x, 0.3))


def test_the_gradient_has_the_mask_of_its_own_pass() -> None:
    layer, x = seeded(), torch.ones(50)
    first, second = layer(x), layer(x)
    assert torch.equal(nn.backward(first), first)  # type: ignore[arg-type]  # one input, so one tensor
    assert torch.equal(nn.backward(second), second)  # type: ignore[arg-type]  # one input, so one tensor


def test_a_share_p_is_dropped_and_the_mean_is_kept() -> None:
    y = seeded(0.2)(torch.ones(100_000))
    assert float((y == 0).double().mean()) == pytest.approx(0.2, abs=0.006)
    assert torch.equal(y.unique(), torch.tensor([0.0, 1.25]))


def test_in_evaluation_the_output_is_a_copy_of_the_input() -> None:
    x = torch.randn(5)
    y = seeded().eval()(x)
    assert torch.equal(y, x) and y.data_ptr() != x.data_ptr()


def test_a_copy_draws_what_the_original_draws() -> None:
    layer, x = seeded(), torch.ones(50)
    other = copy.deepcopy(layer)
    assert torch.equal(layer(x), other(x))


def test_misuse_is_refused() -> None:
    with pytest.raises(ArgumentError, match="p is 1.5, but a number from 0 to 1 is expected"):
        nn.Dropout(1.5)
    with pytest.raises(ArgumentError, match="generator is a int, but a torch.Generator is expected"):
        nn.Dropout(generator=3)  # type: ignore[arg-type]  # on purpose
