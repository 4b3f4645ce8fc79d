"""What has no name gets none, what fits twice says so, bad arguments are refused, and one function adds a name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from nn_from_scratch.errors import ArgumentError, ShapeError
from nn_from_scratch.verify import check
from nn_from_scratch.verify.diagnosis import DiagnosisContext, explain, hypotheses
from nn_from_scratch.verify.diagnosis.hypotheses import HYPOTHESES
from tests.functions import draw, function
from tests.unit.verify.diagnosis.explaining import explained

TRUE = draw(6, 5)


def test_a_right_gradient_has_no_fault() -> None:
    assert explain(TRUE, TRUE) is None
    assert explain(None, torch.zeros(3)) is None
    assert explain(TRUE + 1e-10, TRUE, tolerance=1e-9) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_fault_without_a_name_gets_none(seed: int) -> None:
    noise = draw(6, 5, seed=seed + 1)
    for wrong in (noise, TRUE + 0.1 * noise, TRUE * (1 + noise), torch.where(noise > 0, TRUE, -TRUE), TRUE.tanh()):
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


def test_what_has_two_explanations_says_so() -> None:
    numeric = draw(5, 2)
    diagnosis = explained(numeric.flip(1), numeric)
    assert diagnosis.kind == "layout"
    assert "flipped" in diagnosis.sentence and "rolled" in diagnosis.sentence
    assert diagnosis.sentence.endswith("these values cannot tell which.")
    assert diagnosis.details["alternatives"] == ("flipped", "rolled")


def test_entries_without_a_numeric_value_are_left_out() -> None:
    tolerance = torch.full_like(TRUE, 1e-9)
    tolerance[2, 3] = 1e300
    wrong = -TRUE
    wrong[2, 3] = 17.0
    diagnosis = explain(wrong, TRUE, tolerance=tolerance)
    assert diagnosis is not None and diagnosis.kind == "sign"


def test_nan_is_reported_as_such() -> None:
    wrong = TRUE.clone()
    wrong[0] = torch.nan
    diagnosis = explain(wrong, TRUE)
    assert diagnosis is not None and diagnosis.sentence == (
        "The gradient is NaN in 5 of 30 entries and right in the others, where the true one is finite."
    )


def test_the_tensor_is_named() -> None:
    assert str(explained(-TRUE, TRUE, name="weight")) == "The gradient of 'weight' has the wrong sign."


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_low_precision_is_allowed_for(dtype: torch.dtype) -> None:
    diagnosis = explain((-TRUE).to(dtype), TRUE)
    assert diagnosis is not None and diagnosis.kind == "sign"
    assert explain(TRUE.to(dtype), TRUE) is None


def test_inference_mode_and_gradients_that_require_grad_are_accepted() -> None:
    with torch.inference_mode():
        assert explain(-TRUE, TRUE) is not None
    assert explain(-TRUE.clone().requires_grad_(), TRUE) is not None


def test_nothing_is_modified() -> None:
    analytic, numeric = -TRUE, TRUE.clone()
    x = draw(6, 5, seed=1)
    context = DiagnosisContext(name="x", tensors={"x": x}, cotangent=TRUE)
    versions = [t._version for t in (analytic, numeric, x)]
    explain(analytic, numeric, context=context)
    assert [t._version for t in (analytic, numeric, x)] == versions
    assert not x.requires_grad


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: explain(TRUE, TRUE, tolerance=-1.0),
            ArgumentError,
            "tolerance is -1 in an entry, but a finite number of at least 0 is expected",
        ),
        (
            lambda: explain(TRUE, TRUE, tolerance=torch.ones(4)),
            ShapeError,
            r"tolerance has the shape \(4,\), but one that broadcasts to numeric's, \(6, 5\), is expected",
        ),
        (
            lambda: explain(TRUE, TRUE * torch.nan),
            ArgumentError,
            "numeric has an infinite or NaN entry, but finite ones are expected",
        ),
        (
            lambda: explain(torch.zeros(0), torch.zeros(0)),
            ArgumentError,
            r"numeric has the shape \(0,\), but one with entries is expected",
        ),
        (
            lambda: DiagnosisContext(name="y", tensors={"x": TRUE}),
            ArgumentError,
            r"name is 'y', but None or one of \['x'\] is expected",
        ),
        (
            lambda: DiagnosisContext(experiments=-1),
            ArgumentError,
            "experiments is -1, but an integer of at least 0 is expected",
        ),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


CUBED = """
from nn_from_scratch.verify.diagnosis import Explanation, hypothesis

@hypothesis("distorted", simplest=2.0)
def cubed(problem):
    claim = "is the cube of the true one, entry by entry"
    yield Explanation("cubed", claim, 2.0, problem.known(problem.numeric**3))
"""


@pytest.fixture
def registered() -> Iterator[None]:
    before = list(HYPOTHESES)
    yield
    HYPOTHESES[:] = before


@pytest.mark.usefixtures("registered")
def test_one_function_adds_a_diagnosis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert explain(TRUE**3, TRUE, tolerance=1e-9) is None
    tmp_path.joinpath("cubed_gradients.py").write_text(CUBED, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("cubed_gradients")
    assert explained(TRUE**3, TRUE).kind == "cubed"
    cubed = function(lambda x: 2.5 * x, lambda g, x: (2.5 * g) ** 3)
    report = check(cubed, TRUE, checks="gradient", names=("x",))
    assert "diagnosis: The gradient of 'x' is the cube of the true one, entry by entry." in str(report)


def test_every_file_of_hypotheses_is_found() -> None:
    folder = Path(hypotheses.__file__).parent
    files = {f"{hypotheses.__name__}.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"}
    assert files <= sys.modules.keys()
