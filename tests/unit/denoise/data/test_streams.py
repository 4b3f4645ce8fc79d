"""Streams of random numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nn_from_scratch.denoise.data.streams import check_seed, stream
from nn_from_scratch.errors import ArgumentError


def numbers(seed: int, *purpose: str | int) -> Tensor:
    return torch.rand(8, generator=stream(seed, *purpose))


def test_seed_and_purpose_decide_the_stream() -> None:
    assert numbers(0, "noise", 1).equal(numbers(0, "noise", 1))


@pytest.mark.parametrize("other", [(1, "noise", 1), (0, "noise", 2), (0, "crops", 1), (0, "noise")])
def test_another_seed_or_purpose_is_another_stream(other: tuple[int, ...]) -> None:
    assert not numbers(0, "noise", 1).equal(numbers(*other))


def test_a_seed_may_be_of_any_size() -> None:
    check_seed(10**30)
    assert not numbers(10**30, "noise").equal(numbers(10**30 + 1, "noise"))


@pytest.mark.parametrize("seed", [-1, 0.5, True, None])
def test_a_seed_that_makes_no_sense_is_refused(seed: int) -> None:
    with pytest.raises(ArgumentError, match=f"seed is {seed}; it must be a whole number of at least 0"):
        check_seed(seed)
