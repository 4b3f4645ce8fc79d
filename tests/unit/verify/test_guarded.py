"""What comes back from a subject can be calculated with, and no error of the verifier reaches its user."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, ShapeError
from nn_from_scratch.verify import CheckResult, Verdict, check, verification
from nn_from_scratch.verify.derivative import wrong_gradient
from tests.functions import function

DOUBLE = torch.float64


def x(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(0), device="cpu")


def wrong(*found: CheckResult) -> set[str]:
    return {result.check for result in found if result.verdict is Verdict.WRONG}


class Doubled(torch.autograd.Function):
    """Twice the input, with a sparse gradient that is too large by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return 2 * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return (ctx.factor * 2 * g).to_sparse(), None


def test_a_sparse_gradient_is_compared_entry_by_entry() -> None:
    assert check(Doubled, x(4, 3), 1.0).passed
    report = check(Doubled, x(4, 3), 1.5)
    assert "gradient" in wrong(*report.results)
    assert check(torch.nn.Embedding(6, 3, sparse=True), torch.tensor([1, 2, 4])).passed


def test_zeros_without_memory_are_zeros() -> None:
    assert check(torch.sgn, x(5, 9)).passed
    report = check(function(lambda x: x.sum(1), lambda g, x: torch._efficientzerotensor((5, 9))), x(5, 9))
    assert "gradient" in wrong(*report.results)


def test_a_gradient_without_values_is_wrong_and_says_so() -> None:
    (result,) = check((lambda x: 2 * x, lambda dy: (2 * dy).to("meta")), x(4, 3), checks="gradient").results
    assert result.verdict is Verdict.WRONG
    assert "is on the meta device, where no values are" in str(result.reason)


def test_a_gradient_of_one_sample_is_one_finding_about_its_shape() -> None:
    pair = (lambda x, w: (x @ w.T, (x, w)), lambda dy, cache: ((dy @ cache[1])[:1], dy.T @ cache[0]))
    report = check(pair, x(4, 3), x(2, 3), checks="-other_shapes,-special_values")
    assert wrong(*report.results) == {"gradient", "gradient_form"}
    assert Verdict.UNDECIDED not in {result.verdict for result in report.results}


@pytest.mark.parametrize(
    ("subject", "shapes"),
    [
        (torch.sin, [(2, 0)]),
        (torch.sin, [(0,)]),
        (lambda x: x.sum(1), [(2, 0, 3)]),
        (lambda c, a, b: c + a @ b, [(5, 4), (5, 0), (0, 4)]),
    ],
)
def test_an_axis_without_entries_is_no_obstacle(subject: Callable[..., Tensor], shapes: list[tuple[int, ...]]) -> None:
    assert check(subject, *(x(*shape) for shape in shapes)).passed


def test_an_axis_without_entries_hides_no_fault() -> None:
    half = function(lambda c: c.sum() + 2 * c, lambda g, c: 2 * g)
    report = check(lambda c, a: half(c) + a.sum(), x(3, 2), x(2, 0), checks="gradient")
    assert [result.verdict for result in report.results] == [Verdict.WRONG, Verdict.NOT_APPLICABLE]


def test_inputs_of_zeros_are_moved_to_small_numbers() -> None:
    assert check(torch.sin, torch.zeros(3)).passed
    result = next(r for r in check(torch.sin, torch.zeros(3), checks="two_forwards").results)
    assert result.verdict is Verdict.CORRECT


def test_a_weight_that_integers_choose_from_is_checked_with_others() -> None:
    embedding = torch.nn.Embedding(6, 3)
    assert check(embedding, torch.tensor([1, 2, 4])).passed
    (result,) = check(embedding, torch.tensor([1, 2, 4]), checks="two_forwards").results
    assert result.verdict is Verdict.CORRECT


def test_a_mask_of_the_values_leaves_another_number_of_entries_elsewhere() -> None:
    assert check(lambda x: x[x > 0].square(), x(4, 3)).passed


def test_nothing_is_found_in_anomaly_mode_that_is_not_found_without() -> None:
    with torch.autograd.set_detect_anomaly(True, check_nan=True):
        report = check(torch.sqrt, x(3, 4).abs())
        assert torch.is_anomaly_enabled()
    assert report.passed, str(report)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the quantized tensors, which are deprecated
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "q is quantized"),
        (lambda: torch.ones(3).to(torch.float8_e4m3fn), "q has dtype torch.float8_e4m3fn"),
        (lambda: torch.eye(3).to_sparse(), "q has layout torch.sparse_coo"),
    ],
    ids=["quantized", "float8", "sparse"],
)
def test_what_cannot_be_varied_is_held_constant_and_noted(make: Callable[[], Tensor], what: str) -> None:
    def scaled(q: Tensor, x: Tensor) -> Tensor:
        factor = q.dequantize() if q.is_quantized else q.to_dense() if q.is_sparse else q.float()
        return factor.to(x) * x

    report = check(scaled, make(), x(3))
    assert report.passed, str(report)
    assert any(note.startswith(what) and note.endswith("it is held constant") for note in report.notes)


def test_a_subject_of_integers_alone_is_undecided() -> None:
    report = check(lambda n: n + 1, torch.arange(3))
    assert [r.check for r in report.results if r.verdict is Verdict.UNDECIDED] == ["gradient"]


def test_weights_that_the_first_forward_makes_are_checked_in_a_copy() -> None:
    module = torch.nn.LazyLinear(3, dtype=DOUBLE)
    report = check(module, x(4, 2))
    assert report.passed, str(report)
    assert {"weight", "bias"} <= {result.tensor for result in report.results}
    assert module.has_uninitialized_params()


class Marked(torch.Tensor):
    """A tensor that says something about itself."""


def test_a_subclass_of_tensors_is_verified_by_its_values() -> None:
    assert check(torch.tanh, x(4, 3).as_subclass(Marked)).passed
    half = function(torch.tanh, lambda g, x: g / 2 * (1 - x.tanh().square()))
    (result,) = check(half, x(4, 3).as_subclass(Marked), checks="gradient").results
    assert "too small by a factor of 2" in str(result.diagnosis)


@pytest.mark.parametrize("subject", [lambda x: x.argmax(-1), lambda x: x > 0], ids=["integers", "a mask"])
def test_outputs_that_have_no_gradient_are_not_called_wrong(subject: Callable[[Tensor], Tensor]) -> None:
    verdicts = {result.check: result.verdict for result in check(subject, x(4, 3)).results}
    assert verdicts["gradient"] is Verdict.UNDECIDED
    assert Verdict.WRONG not in verdicts.values()


def test_a_subject_without_any_influence_has_nothing_to_own() -> None:
    assert Verdict.UNDECIDED not in {r.verdict for r in check(lambda x: torch.ones(3), x(3)).results}


@pytest.mark.parametrize("limit", [None, 60.0])
def test_the_default_device_is_for_the_subject_alone(limit: float | None) -> None:
    seen: set[str] = set()

    def forward(x: Tensor) -> Tensor:
        seen.add(torch.empty(1).device.type)
        return x.tanh()

    torch.set_default_device("meta")
    try:
        report = check(forward, x(4, 3), time_limit=limit)
    finally:
        torch.set_default_device(None)
    assert report.passed, str(report)
    assert seen == {"meta"}


def test_arrays_of_another_byte_order_are_verified() -> None:
    pair = (lambda x: (np.sin(x), x), lambda dy, x: dy * np.cos(x))
    assert check(pair, x(3).numpy().astype(">f8")).passed


def test_an_error_of_shapes_inside_of_a_check_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def compares(*_: object) -> list[CheckResult]:
        raise ShapeError("analytic has another shape")

    monkeypatch.setattr(verification, "check_gradient", compares)
    assert check(torch.sin, x(3), checks="gradient").verdict is Verdict.UNDECIDED


def raises(*_: object) -> list[CheckResult]:
    raise IndexError("of the verifier's own")


def test_an_error_of_a_check_is_undecided_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "check_gradient", raises)
    first, second = check(torch.sin, x(3), checks="gradient,determinism").results
    assert (first.verdict, second.verdict) == (Verdict.UNDECIDED, Verdict.CORRECT)
    assert "an error of the verifier, not of the subject: IndexError: of the verifier's own" in str(first.reason)
    assert str(first.reason).endswith(verification.REPORT_IT)
    assert "in raises" in first.details["traceback"]


def test_an_error_on_the_way_to_a_subject_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "as_subject", raises)
    report = check(torch.sin, x(3))
    assert report.verdict is Verdict.UNDECIDED
    assert report.results[0].check == "recognition"


@pytest.mark.parametrize(("module", "name"), [(verification, "snippet"), (wrong_gradient, "explain")])
def test_a_finding_survives_an_error_in_what_is_said_of_it(
    module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, raises)
    report = check(function(lambda x: 2 * x, lambda g, x: g), x(3), checks="gradient")
    assert report.verdict is Verdict.WRONG


def test_a_reference_that_raises_is_no_finding() -> None:
    (result,) = check(torch.sin, x(3), checks="reference_value", reference=raises).results
    assert result.verdict is Verdict.UNDECIDED
    assert result.reason == "the reference raised IndexError: of the verifier's own"


@pytest.mark.parametrize("name", ["resolution", "entry_seconds", "nondeterminism"])
def test_an_option_of_a_check_that_is_no_number_is_refused(name: str) -> None:
    options: dict[str, Any] = {name: "much"}
    with pytest.raises(ArgumentError, match=f"{name}='much' should be a number of at least 0"):
        check(torch.sin, x(3), **options)
