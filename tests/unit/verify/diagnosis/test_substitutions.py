"""Faults that show in the context: earlier calls, other cotangents, other values of the operands."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis import Cotangents, Diagnosis, DiagnosisContext, explain


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _explained(analytic: Tensor, numeric: Tensor, **known: object) -> Diagnosis:
    diagnosis = explain(analytic, numeric, tolerance=1e-9, context=DiagnosisContext(**known))  # type: ignore[arg-type]
    assert diagnosis is not None
    return diagnosis


TRUE, OTHER = _draw(5, 4), _draw(5, 4, seed=1)


class _Experiment:
    """y = (sin(x·w), w³·x), which no family knows; counts its calls."""

    def __init__(self) -> None:
        self.values = {"x": _draw(6, seed=2), "w": _draw(6, seed=3)}
        self.cotangents = {"a": _draw(6, seed=4), "b": _draw(6, seed=5)}
        self.calls = 0

    def gradient(self, cotangents: Cotangents, values: Mapping[str, Tensor]) -> Tensor:
        """The true gradient of x."""
        self.calls += 1
        here = {**self.values, **values}
        x, w = here["x"], here["w"]
        return cotangents["a"] * w * torch.cos(x * w) + cotangents["b"] * w**3

    def explained(self, analytic: Tensor, **known: object) -> Diagnosis | None:
        context = DiagnosisContext(
            name="x",
            tensors=self.values,
            cotangent=self.cotangents,
            numeric_at=self.gradient,
            **known,  # type: ignore[arg-type]
        )
        return explain(analytic, self.gradient(self.cotangents, {}), tolerance=1e-9, context=context)


def test_the_previous_gradient_is_a_stale_record() -> None:
    assert _explained(OTHER, TRUE, previous_gradient=OTHER).kind == "stale-record"


def test_the_sum_with_the_previous_gradient_was_not_cleared() -> None:
    assert _explained(TRUE + OTHER, TRUE, previous_gradient=OTHER).kind == "not-cleared"


def test_a_grad_that_is_not_empty_is_overwritten_doubled_or_left_alone() -> None:
    should = OTHER + TRUE
    assert _explained(TRUE, should, initial_grad=OTHER).kind == "overwritten"
    assert _explained(OTHER + 2 * TRUE, should, initial_grad=OTHER).kind == "accumulated-twice"
    assert _explained(OTHER, should, initial_grad=OTHER).kind == "not-accumulated"


def test_one_of_two_uses_is_missing() -> None:
    uses = {"the first use": TRUE - OTHER, "the second use": OTHER}
    missing = _explained(TRUE - OTHER, TRUE, contributions=uses)
    assert "the second use" in missing.sentence
    assert missing.kind == "ambiguous" or missing.kind == "terms"
    assert _explained(TRUE + OTHER, TRUE, contributions=uses).kind == "term-doubled"


def test_the_gradient_of_another_tensor_is_named() -> None:
    diagnosis = _explained(
        OTHER, TRUE, name="a", tensors={"a": TRUE, "b": TRUE}, numeric_gradients={"a": TRUE, "b": OTHER}
    )
    assert (diagnosis.kind, "that of 'b'" in diagnosis.sentence) == ("swapped-gradients", True)


def test_a_known_gradient_of_another_call_is_named() -> None:
    diagnosis = _explained(OTHER, TRUE, known_gradients={"the gradient of the other pending forward": OTHER})
    assert diagnosis.sentence == "The gradient is the gradient of the other pending forward."


def test_an_ignored_cotangent_is_named_by_the_gradient_for_ones() -> None:
    assert _explained(OTHER, TRUE, numeric_for_ones=OTHER).kind == "cotangent-ignored"


def test_an_ignored_cotangent_is_named_where_no_value_explains_it() -> None:
    diagnosis = _explained(OTHER, TRUE, gradient_for_other_cotangent=OTHER)
    assert diagnosis.kind == "cotangent-ignored"


def test_a_linear_gradient_is_not_taken_for_an_ignored_cotangent() -> None:
    context = DiagnosisContext(gradient_for_other_cotangent=-0.5 * OTHER)
    assert explain(OTHER, TRUE, tolerance=1e-9, context=context) is None


def test_a_detached_output_is_named() -> None:
    experiment = _Experiment()
    w = experiment.values["w"]
    diagnosis = experiment.explained(experiment.cotangents["b"] * w**3)
    assert diagnosis is not None
    assert "'a'" in diagnosis.sentence
    assert "'b'" in diagnosis.sentence


def test_an_operand_left_out_is_named_by_experiment() -> None:
    experiment = _Experiment()
    ones = torch.ones(6, dtype=torch.float64)
    diagnosis = experiment.explained(experiment.gradient(experiment.cotangents, {"w": ones}))
    assert diagnosis is not None
    assert (diagnosis.kind, "'w'" in diagnosis.sentence) == ("operand-missing", True)


def test_experiments_are_bounded() -> None:
    experiment = _Experiment()
    assert experiment.explained(_draw(6, seed=9), experiments=5) is None
    assert experiment.calls <= 1 + 5


def test_a_cotangent_read_in_memory_order_is_named() -> None:
    x, g = _draw(6, 5), _draw(5, 6, seed=1).T
    memory = torch.as_strided(g, g.shape, (5, 1))
    diagnosis = _explained(
        memory * x.cos(), g * x.cos(), name="x", tensors={"x": x}, outputs={"y": x.sin()}, cotangent=g
    )
    assert diagnosis.kind == "cotangent-strides"
