"""What has no name gets none, what fits several ways says so, and bad arguments are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, ShapeError
from nn_from_scratch.verify.diagnosis import DiagnosisContext, explain


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TRUE = _draw(6, 5)


def test_a_right_gradient_has_no_fault() -> None:
    assert explain(TRUE, TRUE) is None
    assert explain(None, torch.zeros(3)) is None
    assert explain(TRUE + 1e-10, TRUE, tolerance=1e-9) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_fault_without_a_name_gets_none(seed: int) -> None:
    noise = _draw(6, 5, seed=seed + 1)
    for wrong in (
        noise,
        TRUE + 0.1 * noise,
        TRUE * (1 + noise),
        torch.where(noise > 0, TRUE, -TRUE),
        TRUE.tanh(),
    ):
        assert explain(wrong, TRUE, tolerance=1e-6) is None


def test_one_number_is_no_evidence_for_a_factor_without_a_name() -> None:
    assert explain(torch.tensor(3.7), torch.tensor(1.0), tolerance=1e-9) is None
    assert explain(torch.tensor([2.0, 3.0]), torch.tensor([1.0, -2.0]), tolerance=1e-9) is None


def test_one_number_is_evidence_for_a_sign_if_it_is_known_well() -> None:
    assert explain(torch.tensor(-3.7), torch.tensor(3.7), tolerance=1e-6) is not None
    assert explain(torch.tensor(-3.7), torch.tensor(3.7), tolerance=1.0) is None


def test_an_explanation_has_to_hold_in_every_entry() -> None:
    wrong = -TRUE
    wrong[3, 2] = 0.7
    assert explain(wrong, TRUE, tolerance=1e-9) is None


def test_what_fits_two_ways_says_so() -> None:
    numeric = _draw(5, 2)
    diagnosis = explain(numeric.flip(1), numeric, tolerance=1e-9)
    assert diagnosis is not None
    assert diagnosis.kind == "layout"
    assert "flipped" in diagnosis.sentence
    assert "rolled" in diagnosis.sentence
    assert diagnosis.sentence.endswith("these values cannot tell which.")
    assert diagnosis.details["alternatives"] == ("flipped", "rolled")


def test_entries_without_a_numeric_value_are_left_out() -> None:
    tolerance = torch.full_like(TRUE, 1e-9)
    tolerance[2, 3] = 1e300
    wrong = -TRUE
    wrong[2, 3] = 17.0
    diagnosis = explain(wrong, TRUE, tolerance=tolerance)
    assert diagnosis is not None
    assert diagnosis.kind == "sign"


def test_nan_is_reported_as_such() -> None:
    wrong = TRUE.clone()
    wrong[0] = torch.nan
    diagnosis = explain(wrong, TRUE)
    assert diagnosis is not None
    assert diagnosis.sentence == (
        "The gradient is NaN in 5 of 30 entries and right in the others, where the true one is finite."
    )


def test_the_tensor_is_named() -> None:
    context = DiagnosisContext(name="weight")
    diagnosis = explain(-TRUE, TRUE, context=context)
    assert diagnosis is not None
    assert str(diagnosis) == "The gradient of 'weight' has the wrong sign."


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_low_precision_is_allowed_for(dtype: torch.dtype) -> None:
    diagnosis = explain((-TRUE).to(dtype), TRUE)
    assert diagnosis is not None
    assert diagnosis.kind == "sign"
    assert explain(TRUE.to(dtype), TRUE) is None


def test_inference_mode_and_gradients_that_require_grad_are_accepted() -> None:
    with torch.inference_mode():
        assert explain(-TRUE, TRUE) is not None
    assert explain(-TRUE.clone().requires_grad_(), TRUE) is not None


def test_nothing_is_modified() -> None:
    analytic, numeric = -TRUE, TRUE.clone()
    x = _draw(6, 5, seed=1)
    context = DiagnosisContext(name="x", tensors={"x": x}, cotangent=TRUE)
    versions = [t._version for t in (analytic, numeric, x)]
    explain(analytic, numeric, context=context)
    assert [t._version for t in (analytic, numeric, x)] == versions
    assert not x.requires_grad


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ArgumentError, match="tolerance must be finite and at least 0"):
        explain(TRUE, TRUE, tolerance=-1.0)
    with pytest.raises(ShapeError, match=r"tolerance has the shape \(4,\) and must broadcast to numeric's, \(6, 5\)"):
        explain(TRUE, TRUE, tolerance=torch.ones(4))
    with pytest.raises(ArgumentError, match="numeric must be finite"):
        explain(TRUE, TRUE * torch.nan)
    with pytest.raises(ArgumentError, match=r"numeric has the shape \(0,\) and must have entries"):
        explain(torch.zeros(0), torch.zeros(0))
    with pytest.raises(ArgumentError, match=r"name='y' must be None or one of \['x'\]"):
        DiagnosisContext(name="y", tensors={"x": TRUE})
    with pytest.raises(ArgumentError, match="experiments=-1 must be at least 0"):
        DiagnosisContext(experiments=-1)
