"""Tensors that nothing can be calculated with, wherever they turn up: a reason, and never an error of the verifier."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify import check
from nn_from_scratch.verify.reports import Report
from nn_from_scratch.verify.results import Verdict

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested", "ignore:Sparse CSR", "ignore:.*quantize")

X = torch.linspace(0.5, 2.0, 3, dtype=torch.float64)
SOME = ("gradient", "gradient_form", "linear_cotangent", "determinism", "no_aliasing", "complex_step", "two_forwards")
KINDS: dict[str, Callable[[], Tensor]] = {
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "meta": lambda: torch.ones(3, device="meta"),
    "float8": lambda: torch.ones(3).to(torch.float8_e4m3fn),
    "scale": lambda: torch.ones(3).to(torch.float8_e8m0fnu),
    "bits": lambda: torch.ones(3).to(torch.uint8).view(torch.bits8),
    "mask": lambda: torch.ones(3).bool(),
    "large unsigned": lambda: torch.ones(3).to(torch.uint16),
}


def without_own_errors(report: Report) -> Report:
    assert not [r.reason for r in report.results if r.reason and "an error of the verifier" in r.reason]
    return report


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_that_nothing_can_be_calculated_with_is_wrong(kind: str) -> None:
    gradient = KINDS[kind]()
    report = without_own_errors(check((lambda x: 2 * x, lambda g: gradient), X, checks=SOME))
    assert report.verdict is Verdict.WRONG
    reasons = [str(r.reason) for r in report.results if r.verdict is Verdict.WRONG]
    assert any("the gradient of x that" in reason for reason in reasons), reasons


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_a_gradient_of_integers_has_the_wrong_dtype(dtype: torch.dtype) -> None:
    report = without_own_errors(check((lambda x: x.sum(), lambda g: torch.ones(3, dtype=dtype)), X, checks=SOME))
    found = {r.check: r.verdict for r in report.results}
    assert found["gradient_form"] is Verdict.WRONG


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mask"])
def test_an_input_that_nothing_can_be_calculated_with_is_held_constant(kind: str) -> None:
    report = without_own_errors(check(lambda x, other: 2 * x, X, KINDS[kind]()))
    assert report.passed
    assert any("other" in note and "held constant" in note for note in report.notes)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("mask", "large unsigned")])
def test_an_output_that_nothing_can_be_calculated_with_is_refused(kind: str) -> None:
    if kind == "bits":
        with pytest.raises(SubjectError, match=r"^the output y .* has dtype torch\.bits8"):
            check(lambda x: KINDS[kind](), X)
        return
    with pytest.raises(SubjectError, match="^[^\n]*the output y [^\n]*$"):
        check(lambda x: KINDS[kind](), X)


def test_an_output_of_large_unsigned_numbers_is_left_out() -> None:
    report = without_own_errors(check(lambda x: (2 * x, torch.ones(3).to(torch.uint16)), X))
    assert report.verdict is Verdict.CORRECT


def test_a_tensor_whose_memory_was_freed_is_refused_and_not_read() -> None:
    freed = torch.ones(3)
    freed.untyped_storage().resize_(0)
    with pytest.raises(SubjectError, match=r"^x of .* has no values: the memory behind it was freed$"):
        check(lambda x: 2 * x, freed)


def test_what_a_subject_raises_is_quoted_in_part() -> None:
    def long(x: Tensor) -> Tensor:
        raise ValueError("no " * 1000)

    with pytest.raises(SubjectError, match=r"^forward of long raised ValueError: [no ]+ \.\.\.$") as caught:
        check(long, X)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("subject", [X, np.ones(3)], ids=["tensor", "array"])
def test_a_tensor_is_no_subject(subject: object) -> None:
    with pytest.raises(SubjectError, match=r"^the subject is a \w+ of shape \(3,\), but these forms are known"):
        check(subject, X)
