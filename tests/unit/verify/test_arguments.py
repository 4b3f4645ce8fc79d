"""Arguments of `check` of a wrong type or value: one sentence that names the argument, before anything runs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from nn_from_scratch.errors import ArgumentError, OptionTypeError
from nn_from_scratch.verify import check

X = torch.ones(3, dtype=torch.float64)

OF_NO_USE: list[tuple[str, list[object]]] = [
    ("checks", [3, 1.5, True, b"gradient", [1], {1, 2}, X, {"gradient": 1}, torch.sin]),
    ("seed", ["a", 1.5, None, True, [1], X]),
    ("time_limit", ["x", [1], True, 1j, X, {}]),
    ("factor", ["x", None, True, [1], X]),
    ("strict", ["yes", None, 1, X]),
    ("on_check", ["x", 3, [], True]),
    ("reference", [3, "sin", X, [torch.sin]]),
    ("batch", [3, 1.5, [1], {"x": "y"}, X]),
    ("resolution", ["x", [1], True, X]),
    ("keywords", ["a", 3, [1], X, {1: 2}]),
    ("parameters", ["a", 3, {"w": 1}, {"w": None}, X]),
    ("mapping", ["a", 3, {"w": 1}, X]),
    ("names", ["x", 3, [1], X]),
    ("differentiable", ["x", 3, [1], X, True]),
    ("cache", ["yes", 1, X]),
    ("form", [3, [], {}, X]),
    ("name", [3, [], X]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OF_NO_USE for value in values])
def test_an_argument_of_another_type_is_one_sentence(name: str, value: object) -> None:
    options: Any = {name: value}
    with pytest.raises(OptionTypeError, match=f"^{name}=.* should be [^\n]*[.]$") as caught:
        check(torch.sin, X, **options)
    assert isinstance(caught.value, ArgumentError | TypeError)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("level", 3), ("level", []), ("level", X), ("level", np.array([1, 2])), ("level", None)],
        *[("fragile", 3), ("fragile", []), ("fragile", X), ("fragile", np.array([1, 2])), ("fragile", True)],
        *[("time_limit", 0), ("time_limit", -1), ("time_limit", float("nan"))],
        *[("factor", 0), ("factor", float("nan")), ("factor", float("inf"))],
        ("nondeterminism", float("nan")),
    ],
)
def test_a_value_that_makes_no_sense_is_one_sentence(name: str, value: object) -> None:
    options: Any = {name: value}
    with pytest.raises(ArgumentError, match=f"^{name}=.* should be [^\n]*[.]$"):
        check(torch.sin, X, **options)


def test_a_long_value_is_described_instead_of_shown() -> None:
    with pytest.raises(OptionTypeError, match="^factor=a list of length 1000 should be"):
        check(torch.sin, X, factor=[0.5] * 1000)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [float("inf"), 2**70])
def test_a_time_limit_without_an_end_is_none(limit: float) -> None:
    assert check(torch.sin, X, checks="gradient", time_limit=limit).passed


def test_numbers_of_numpy_are_numbers() -> None:
    options: Any = {"seed": np.int64(3), "time_limit": np.float32(60), "factor": np.float32(10)}
    report = check(torch.sin, X, checks="gradient", **options)
    assert report.passed
    assert json.loads(report.to_json())["seed"] == 3


def test_an_option_that_is_none_is_not_given() -> None:
    report = check(torch.sin, X, checks="gradient", resolution=None, naming_seconds=None, reference=None)
    assert report.passed
