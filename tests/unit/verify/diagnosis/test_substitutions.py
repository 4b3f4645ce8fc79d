"""Faults that show in the context: earlier calls, other cotangents, other values of the operands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis import Cotangents, Diagnosis, DiagnosisContext, explain
from tests.functions import draw
from tests.unit.verify.diagnosis.explaining import explained

TRUE, OTHER = draw(5, 4), draw(5, 4, seed=1)
USES = {"the first use": TRUE - OTHER, "the second use": OTHER}
TWO = {"name": "a", "tensors": {"a": TRUE, "b": TRUE}, "numeric_gradients": {"a": TRUE, "b": OTHER}}


@pytest.mark.parametrize(
    ("analytic", "numeric", "known", "kind", "words"),
    [
        (OTHER, TRUE, {"previous_gradient": OTHER}, "stale-record", "previous call"),
        (TRUE + OTHER, TRUE, {"previous_gradient": OTHER}, "not-cleared", "previous call"),
        (TRUE, OTHER + TRUE, {"initial_grad": OTHER}, "overwritten", "`.grad`"),
        (OTHER + 2 * TRUE, OTHER + TRUE, {"initial_grad": OTHER}, "accumulated-twice", "`.grad`"),
        (OTHER, OTHER + TRUE, {"initial_grad": OTHER}, "not-accumulated", "`.grad`"),
        (TRUE - OTHER, TRUE, {"contributions": USES}, "terms", "the second use"),
        (TRUE + OTHER, TRUE, {"contributions": USES}, "term-doubled", "the second use"),
        (OTHER, TRUE, TWO, "swapped-gradients", "that of 'b'"),
        (
            OTHER,
            TRUE,
            {"known_gradients": {"the other call's": OTHER}},
            "mistaken",
            "The gradient is the other call's.",
        ),
        (OTHER, TRUE, {"numeric_for_ones": OTHER}, "cotangent-ignored", "a cotangent of ones"),
        (OTHER, TRUE, {"gradient_for_other_cotangent": OTHER}, "cotangent-ignored", "does not depend"),
    ],
)
def test_what_is_known_names_the_fault(
    analytic: Tensor, numeric: Tensor, known: dict[str, Any], kind: str, words: str
) -> None:
    diagnosis = explained(analytic, numeric, **known)
    assert diagnosis.kind == kind and words in diagnosis.sentence


def test_a_linear_gradient_is_not_taken_for_an_ignored_cotangent() -> None:
    context = DiagnosisContext(gradient_for_other_cotangent=-0.5 * OTHER)
    assert explain(OTHER, TRUE, tolerance=1e-9, context=context) is None


class _Experiment:
    """y = (sin(x·w), w³·x), which no family knows; counts its calls."""

    def __init__(self) -> None:
        self.values = {"x": draw(6, seed=2), "w": draw(6, seed=3)}
        self.cotangents = {"a": draw(6, seed=4), "b": draw(6, seed=5)}
        self.calls = 0

    def gradient(self, cotangents: Cotangents, values: Mapping[str, Tensor]) -> Tensor:
        """The true gradient of x."""
        self.calls += 1
        here = {**self.values, **values}
        x, w = here["x"], here["w"]
        return cotangents["a"] * w * torch.cos(x * w) + cotangents["b"] * w**3

    def explained(self, analytic: Tensor, **known: object) -> Diagnosis | None:
        given = {"name": "x", "tensors": self.values, "cotangent": self.cotangents, "numeric_at": self.gradient}
        context = DiagnosisContext(**given, **known)  # type: ignore[arg-type]
        return explain(analytic, self.gradient(self.cotangents, {}), tolerance=1e-9, context=context)


def test_a_detached_output_is_named() -> None:
    experiment = _Experiment()
    diagnosis = experiment.explained(experiment.cotangents["b"] * experiment.values["w"] ** 3)
    assert diagnosis is not None and "'a'" in diagnosis.sentence and "'b'" in diagnosis.sentence


def test_an_operand_left_out_is_named_by_experiment() -> None:
    experiment = _Experiment()
    ones = torch.ones(6, dtype=torch.float64)
    diagnosis = experiment.explained(experiment.gradient(experiment.cotangents, {"w": ones}))
    assert diagnosis is not None and diagnosis.kind == "operand-missing" and "'w'" in diagnosis.sentence


def test_experiments_are_bounded() -> None:
    experiment = _Experiment()
    assert experiment.explained(draw(6, seed=9), experiments=5) is None
    assert experiment.calls <= 1 + 5


def test_a_cotangent_read_in_memory_order_is_named() -> None:
    x, g = draw(6, 5), draw(5, 6, seed=1).T
    known = {"name": "x", "tensors": {"x": x}, "outputs": {"y": x.sin()}, "cotangent": g}
    memory = torch.as_strided(g, g.shape, (5, 1))
    assert explained(memory * x.cos(), g * x.cos(), **known).kind == "cotangent-strides"
