"""Functions under watch."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import FunctionType

import torch
from torch import Tensor

from nn_from_scratch.mutation.watching import Watch


def test_the_lines_that_ran_and_the_largest_result_are_seen() -> None:
    def backward(g: Tensor, double: bool) -> Tensor:
        if double:
            return 2 * sum(x for x in g)[None]  # type: ignore[no-any-return]  # a sum of tensors is one
        return g

    watch, before = Watch(), sys.gettrace()
    assert isinstance(backward, FunctionType)
    watch.put_on(backward, "m:backward")
    assert torch.equal(backward(torch.ones(3), True), torch.tensor([6.0]))
    assert watch.reached == {"m:backward": {0, 1, 2}} or watch.reached == {"m:backward": {1, 2}}
    watch.begin()
    backward(torch.ones(3), False)
    assert watch.reached["m:backward"] == {1, 3}
    assert watch.seen["m:backward"][""].shape == (3,) and watch.cotangents == {"m:backward"}
    assert sys.gettrace() is before


def test_of_a_generator_it_is_known_that_it_was_called_and_no_more() -> None:
    def parts(n: int) -> Iterator[int]:
        yield from range(n)

    watch = Watch()
    assert isinstance(parts, FunctionType)
    watch.put_on(parts, "m:parts")
    assert list(parts(2)) == [0, 1]
    assert watch.reached == {"m:parts": None}


def test_a_call_that_a_cache_would_answer_is_seen_in_each_test() -> None:
    @lru_cache
    def plan(n: int) -> int:
        return n

    (function,) = (each for each in gc.get_referents(plan) if isinstance(each, FunctionType))
    watch = Watch()
    watch.put_on(function, "m:plan")
    for _ in range(2):
        watch.begin()
        assert plan(1) == 1 and "m:plan" in watch.reached
