"""Mutants by faults in results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.result_faults import (
    OPERATORS,
    Observation,
    faulty,
    has_cotangent,
    observe,
    result_mutants,
)

FUNCTION = Function("module:backward", Path("module.py"), "backward", 1)


def backward(g: Tensor, x: Tensor) -> Tensor:
    return g * x


G = torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], dtype=torch.float64)
X = torch.tensor([[0.5, 1.5, -1.0], [2.0, -3.0, 0.25]], dtype=torch.float64)
RIGHT = G * X


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("sign", -RIGHT),
        ("zero", 0 * RIGHT),
        ("twice", 2 * RIGHT),
        ("times length", 2 * RIGHT),
        ("over length", RIGHT / 2),
        ("inexact", 1.0001 * RIGHT),
        ("one entry", RIGHT * torch.tensor([[1.0, 1, 1], [1, 1, 1.1]], dtype=torch.float64)),
        ("border", RIGHT * torch.tensor([1.0, 1, 0])),
        ("first sample", RIGHT * torch.tensor([[1.0], [0]])),
        ("transposed", RIGHT.T.reshape(2, 3)),
        ("flipped", RIGHT.flip(1)),
        ("shifted", RIGHT.roll(1, 1)),
        ("averaged", RIGHT.mean(0, keepdim=True).expand(2, 3)),
        ("rounded", RIGHT.float().double()),
        ("ones for cotangent", X),
        ("float32 fault", RIGHT),
        ("nan hidden", RIGHT),
        ("stale", RIGHT),
        ("buffer", RIGHT),
        ("cotangent modified", 2 * RIGHT),
    ],
)
def test_what_a_fault_makes_of_a_gradient(operator: str, expected: Tensor) -> None:
    given = G.clone()
    found = faulty(backward, operator, "")(given, X)
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)
    assert torch.equal(given, 2 * G if operator == "cotangent modified" else G)


def test_the_list_above_is_complete() -> None:
    (mark,) = test_what_a_fault_makes_of_a_gradient.pytestmark  # type: ignore[attr-defined]  # set by the decorator
    assert [name for name, _ in mark.args[1]] != [] and {name for name, _ in mark.args[1]} == set(OPERATORS)


def test_faults_that_show_in_a_second_call_or_another_dtype() -> None:
    stale, buffer = faulty(backward, "stale", ""), faulty(backward, "buffer", "")
    first, kept = stale(G, X), buffer(G, X)
    assert torch.equal(stale(2 * G, X), first)
    assert buffer(2 * G, X) is not None and torch.equal(kept, 2 * RIGHT)
    single = faulty(backward, "float32 fault", "")(G.float(), X.float())
    assert not torch.allclose(single, RIGHT.float(), rtol=1e-4)
    assert torch.equal(faulty(backward, "nan hidden", "")(G * torch.nan, X), torch.zeros_like(G))


def test_a_place_in_a_tuple_a_list_or_a_dictionary() -> None:
    assert faulty(lambda g: (None, g), "sign", "1")(1 * G)[1].equal(-G)
    assert faulty(lambda g: [g, g], "sign", "0")(1 * G)[1].equal(G)
    found = faulty(lambda g: {"weight": g, "bias": g}, "zero", "bias")(1 * G)
    assert found["weight"].equal(G) and not found["bias"].any()


def test_arrays_stay_arrays() -> None:
    def numpy_backward(dy: Any, x: Any) -> Any:
        return dy * x

    found = faulty(numpy_backward, "sign", "")(G.numpy(), X.numpy())
    assert isinstance(found, np.ndarray) and np.array_equal(found, -RIGHT.numpy())
    ignored = faulty(numpy_backward, "ones for cotangent", "")(G.numpy(), X.numpy())
    assert isinstance(ignored, np.ndarray) and np.array_equal(ignored, X.numpy())


def test_what_was_seen_decides_which_faults_are_tried() -> None:
    def operators(shape: tuple[int, ...], **options: bool) -> set[str]:
        seen = {"": Observation(shape, options.get("floating", True))}
        return {m.operator for m in result_mutants(FUNCTION, seen, cotangent=options.get("cotangent", False))}

    assert "transposed" in operators((2, 3)) and "transposed" not in operators((1, 3))
    assert "border" not in operators((3, 1)) and "border" in operators((1, 3))
    assert "times length" not in operators((1, 3)) and "times length" in operators((3, 1))
    assert "sign" in operators(()) and "flipped" not in operators(())
    assert operators((2, 3), floating=False) == set()
    assert "ones for cotangent" in operators((2,), cotangent=True)
    assert "ones for cotangent" not in operators((2,))


def test_observations_are_made_by_place() -> None:
    assert observe({"weight": G, "bias": None}) == {"weight": Observation((2, 3), True)}
    assert observe((None, torch.zeros(3, dtype=torch.int64))) == {"1": Observation((3,), False)}
    assert observe(np.zeros((4, 1))) == {"": Observation((4, 1), True)}
    assert observe("text") == {} == observe(None)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda ctx, anything: anything, True),
        (lambda self, g, record: g, True),
        (lambda dout, cache: dout, True),
        (lambda x, w: x, False),
        (lambda x, *, grad: x, False),
    ],
)
def test_a_cotangent_is_known_by_its_name(function: Any, expected: bool) -> None:
    assert has_cotangent(function) is expected
