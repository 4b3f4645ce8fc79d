"""Programs as graphs that run without Python."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nn_from_scratch.engine.capture import interpreted
from nn_from_scratch.engine.capture.instructions import Listing, Program
from nn_from_scratch.engine.capture.interpreted import interpreted_program
from nn_from_scratch.engine.capture.program import compile_program, list_instructions
from nn_from_scratch.engine.capture.recording import record
from nn_from_scratch.engine.capture.waiting import Bell

X = torch.linspace(-1, 1, 12).view(3, 4)


def listing_of(computation: Callable[[Tensor], Tensor], x: Tensor) -> Listing:
    result, calls = record(lambda: computation(x))
    return list_instructions(calls, (x,), result)


def interpreted_from(computation: Callable[[Tensor], Tensor], x: Tensor = X) -> Program | None:
    return interpreted_program(listing_of(computation, x))


@pytest.mark.parametrize(
    "computation",
    [
        lambda x: (x * 2 - 1).relu(),
        lambda x: (x / 3).where(x > 0.25, -1.5),
        lambda x: torch.cat([x, x.t().contiguous().view(3, 4)]).sum(dim=0, keepdim=True),
        lambda x: torch.cat(torch._foreach_mul([x, x + 1], 0.1)),
        lambda x: x.contiguous().clone(memory_format=torch.preserve_format).div_(7),
        lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gives_the_same_bits(computation: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    program = interpreted_from(computation, X.to(dtype))
    assert program is not None
    for x in (X.to(dtype), 3 * X.to(dtype)):
        assert torch.equal(program(x), computation(x))


@pytest.mark.parametrize(
    "computation",
    [
        lambda x: torch.empty_like(x).bernoulli_(0.5, generator=torch.default_generator) + x,
        lambda x: x.to(torch.float64),
        lambda x: x.clamp(max=float("inf")),
        lambda x: (x > 0) * 2,  # whether the number is one of float32 depends on what it stands beside
        lambda x: x.topk(2).values,  # two results
    ],
    ids=["generator", "dtype", "infinity", "number", "tuple"],
)
def test_is_none_where_a_graph_cannot_say_it(computation: Callable[[Tensor], Tensor]) -> None:
    assert interpreted_from(computation) is None
    result, calls = record(lambda: computation(X))
    assert compile_program(calls, (X,), result)(X).shape == result.shape


def test_is_none_without_torchs_internal_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert interpreted_from(torch.relu) is not None
    monkeypatch.delattr(torch._C, "_create_function_from_graph")
    assert interpreted_from(torch.relu) is None


def test_is_none_where_another_overload_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(number: float, *, beside: object) -> float:
        return number

    monkeypatch.setattr(interpreted, "_as_tensor", leave)
    assert interpreted_from(lambda x: x * 2) is None  # of a number, and not of a tensor


def test_optimizations_are_off_for_the_program_alone() -> None:
    program = interpreted_from(torch.relu)
    assert program is not None
    before = torch._C._get_graph_executor_optimize()
    try:
        for optimizes in (True, False):
            torch._C._set_graph_executor_optimize(optimizes)
            program(X)
            assert torch._C._get_graph_executor_optimize() is optimizes
            with pytest.raises(RuntimeError):
                program()  # an input is missing
            assert torch._C._get_graph_executor_optimize() is optimizes
    finally:
        torch._C._set_graph_executor_optimize(before)


def test_rings_a_bell_each_time_when_all_is_written() -> None:
    bell, place = Bell(), torch.zeros(3, 4)
    listing = listing_of(lambda x: place.copy_(x * 2).sum(), X)
    program, silent = interpreted_program(listing, bell), interpreted_program(listing)
    assert program is not None and silent is not None
    for x in (X, 3 * X, X):
        assert not bell.wait(lingering=0)
        assert torch.equal(program(x), (x * 2).sum()) and torch.equal(place, x * 2)
        assert bell.wait(lingering=0)
        silent(x)


def test_tensors_that_stay_are_looked_at_in_each_run() -> None:
    held = torch.ones(3, 4)
    program = interpreted_from(lambda x: x + held)
    assert program is not None
    held.fill_(5)
    assert torch.equal(program(X), X + 5)
