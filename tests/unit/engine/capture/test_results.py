"""Results that are made where they are wanted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nn_from_scratch.engine.capture.instructions import Listing
from nn_from_scratch.engine.capture.program import list_instructions, program_of
from nn_from_scratch.engine.capture.recording import record

X = torch.linspace(-1, 1, 12).view(3, 4)
Computation = Callable[[Tensor, Tensor], Tensor]


def listed(computation: Computation, place: Tensor) -> Listing:
    result, calls = record(lambda: computation(X, place))
    return list_instructions(calls, [X], result, [place])


def copies(listing: Listing) -> int:
    return sum(i.function is torch.ops.aten.copy_.default for i in listing.instructions)


def made_there(x: Tensor, place: Tensor) -> Tensor:
    product = x @ x.t()  # (3, 3)
    place[1:10].view(3, 3).copy_(product)
    place[10:14].copy_(x.sum(dim=0))
    return x.new_zeros(()).add(1)


def read_again(x: Tensor, place: Tensor) -> Tensor:
    product = x @ x.t()
    place[1:10].view(3, 3).copy_(product)
    return product.sum()


def otherwise_laid_out(x: Tensor, place: Tensor) -> Tensor:
    place[1:10].view(3, 3).copy_((x @ x.t()).t())
    return x.sum()


def only_a_part(x: Tensor, place: Tensor) -> Tensor:
    place[1:4].copy_((x @ x.t())[0])
    return x.sum()


def of_another_dtype(x: Tensor, place: Tensor) -> Tensor:
    place[1:4].copy_(x.double().sum(dim=1))
    return x.sum()


def given(x: Tensor, place: Tensor) -> Tensor:
    place[1:13].view(3, 4).copy_(x)
    return x.sum()


@pytest.mark.parametrize(
    ("computation", "expected"),
    [(made_there, 0), (read_again, 1), (otherwise_laid_out, 1), (only_a_part, 1), (of_another_dtype, 1), (given, 1)],
)
def test_copies_are_spared_where_nothing_else_sees_it(computation: Computation, expected: int) -> None:
    place, again = torch.zeros(14), torch.zeros(14)
    listing = listed(computation, place)
    assert copies(listing) == expected
    program = program_of(listing)
    for x in (X, X.cos(), -X):
        place.zero_()
        assert torch.equal(program(x), computation(x, again))
        assert torch.equal(place, again)


def test_only_copies_to_the_wanted_are_spared() -> None:
    place = torch.zeros(14)
    result, calls = record(lambda: made_there(X, place))
    assert copies(list_instructions(calls, [X], result)) == 2
    assert copies(list_instructions(calls, [X], result, [torch.zeros(14)])) == 2
