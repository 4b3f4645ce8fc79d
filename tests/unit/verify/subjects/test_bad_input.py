"""Subjects that misbehave, and inputs that make no sense: wrong or a clear error, never a pass, never a crash."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify import Report, Verdict, check
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import CONTRACTS
from nn_from_scratch.verify.subjects import as_subject
from tests.functions import draw, function

X = draw(4, 5)
ARRAY = X.numpy()


def sine(vjp: Callable[[Tensor, Tensor], Any]) -> Callable[..., Any]:
    return function(torch.sin, vjp)


def raises(g: Tensor, x: Tensor) -> Tensor:
    raise KeyError("the cache is empty")


def report(subject: object, *inputs: object, **options: Any) -> Report:
    found = check(subject, *inputs, **options)
    assert not found.passed, str(found)
    return found


def test_a_backward_that_raises_is_wrong_and_named() -> None:
    found = report(sine(raises), X)
    assert found.verdict is Verdict.WRONG
    assert "KeyError: 'the cache is empty'" in str(found)


def test_a_gradient_of_another_shape_is_wrong() -> None:
    found = report(sine(lambda g, x: g[:, :2]), X)
    assert found.verdict is Verdict.WRONG
    assert "invalid gradient" in str(found)


def test_a_wrong_shape_from_a_pair_is_wrong() -> None:
    found = report((np.sin, lambda dy: dy[:, :2]), ARRAY)
    wrong = {result.check: result.reason for result in found.results if result.verdict is Verdict.WRONG}
    assert "the gradient has shape (4, 2), but" in (wrong["gradient_form"] or "")


def test_too_many_gradients_are_wrong() -> None:
    found = report(sine(lambda g, x: (g, g)), X)
    assert found.verdict is Verdict.WRONG
    assert "incorrect number of gradients" in str(found)


def test_too_few_gradients_from_a_pair_are_wrong() -> None:
    pair = (lambda x, w: (x * w, (x, w)), lambda dy, cache: dy * cache[1])
    found = report(pair, ARRAY, ARRAY + 1)
    assert found.verdict is Verdict.WRONG
    assert "returned 1 gradients" in str(found)
    assert "for 2 inputs (x, w)" in str(found)


def test_a_gradient_that_is_no_tensor_is_wrong() -> None:
    found = report((np.sin, lambda dy: "none"), ARRAY)
    assert found.verdict is Verdict.WRONG
    assert "returned a str as the gradient of" in str(found)


def test_nan_is_wrong() -> None:
    found = report(sine(lambda g, x: g * float("nan")), X)
    assert found.verdict is Verdict.WRONG


def test_no_gradient_at_all_is_no_pass() -> None:
    report(sine(lambda g, x: None), X)
    report(sine(lambda g, x: None), X.clone().requires_grad_())
    assert report(lambda x: x.detach() * 2, X.clone().requires_grad_()).verdict is Verdict.WRONG


def test_integer_inputs_are_no_pass() -> None:
    report(torch.square, torch.arange(5))
    report((lambda x: x**2, lambda dy: 2 * dy), np.arange(5))


def test_empty_tensors_are_no_pass_by_themselves_and_no_crash() -> None:
    report(torch.sin, torch.zeros(0, 5, dtype=torch.float64), checks=["gradient"])


@pytest.mark.parametrize(("function", "value"), [(torch.sin, torch.nan), (torch.exp, torch.inf)])
def test_outputs_that_are_not_finite_are_left_out_and_counted(function: Any, value: float) -> None:
    found = check(function, torch.tensor([1.0, value, 2.0], dtype=torch.float64))
    assert found.verdict is Verdict.CORRECT, str(found)
    assert any("1 of 3 outputs are not finite and were left out" in note for note in found.notes)


def test_a_forward_that_raises_is_an_error_that_names_it() -> None:
    def fails(x: Tensor) -> Tensor:
        raise ValueError("no such kernel")

    with pytest.raises(SubjectError, match="forward of fails raised ValueError: no such kernel"):
        check(fails, X)


def test_a_forward_without_a_tensor_is_an_error() -> None:
    with pytest.raises(SubjectError, match="returned a str; a tensor, an array"):
        check(lambda x: "y", X)


def test_a_forward_that_modifies_a_leaf_is_an_error_that_names_it() -> None:
    with pytest.raises(SubjectError, match="leaf Variable that requires grad"):
        check(torch.relu_, X)


def test_an_array_that_torch_lacks_is_an_error() -> None:
    with pytest.raises(SubjectError, match="an array that torch cannot hold"):
        check((lambda x: x, lambda dy: dy), np.array(["a", "b"]))


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_contract_survives_every_misbehavior(name: str) -> None:
    for vjp in (raises, lambda g, x: None, lambda g, x: g * float("nan"), lambda g, x: g[:, :2]):
        found = CONTRACTS[name](as_subject(sine(vjp), X), CheckContext())
        assert found
    for inputs in ((torch.zeros(0, 5, dtype=torch.float64),), (torch.arange(5),), (torch.tensor(2.0),)):
        assert CONTRACTS[name](as_subject(torch.square, *inputs), CheckContext())
    assert CONTRACTS[name](as_subject(lambda x: x > 0, X), CheckContext())
