"""What the contract checks say of subjects that refuse something, or for which there is nothing to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nn_from_scratch.verify.contracts import CONTRACTS
from nn_from_scratch.verify.results import CheckContext, CheckResult, Verdict
from nn_from_scratch.verify.subjects import as_subject

X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def run(name: str, subject: Any, *inputs: Any, **options: Any) -> list[CheckResult]:
    found = CONTRACTS[name](as_subject(subject, *inputs), CheckContext(options=options))
    return found if isinstance(found, list) else [found]


def in_float64_alone(x: Tensor) -> Tensor:
    if x.dtype != torch.float64:
        raise ValueError("float64 only")
    return x.sin()


def in_float32_alone(x: Tensor) -> Tensor:
    if x.dtype == torch.float64:
        raise ValueError("float32 only")
    return x.sin()


class NothingInBfloat16(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor | None:
        (x,) = ctx.saved_tensors
        return None if x.dtype == torch.bfloat16 else g * x.cos()


@pytest.mark.parametrize(
    ("subject", "x", "reason"),
    [
        (lambda n: n + 1, torch.arange(3), "no input and no parameter is a real floating-point tensor"),
        (torch.sin, X * 1e-60, "no low dtype could be run (float32: input0 underflows; bfloat16: input0 underflows"),
        (in_float32_alone, X.float(), "there is no float64 to compare with: forward of in_float32_alone raised"),
        (lambda x: x.float().sin(), X, "the forward does not compute in float64 on float64 inputs"),
        (in_float64_alone, X, "bfloat16: the forward does not run: forward of in_float64_alone raised ValueError"),
        (lambda x: (x - 10).log(), X, "float32: the float64 value or gradient is not finite"),
        (lambda x: x * 1e39, X, "float32: the value of y overflows"),
        (lambda x: x * 1e-60, X, "float32: the value of y underflows"),
    ],
)
def test_what_keeps_a_low_dtype_from_being_compared_is_said(
    subject: Callable[[Tensor], Tensor], x: Tensor, reason: str
) -> None:
    (result,) = run("low_precision", subject, x)
    assert result.verdict is Verdict.UNDECIDED and reason in str(result)


def test_a_dtype_whose_value_is_lost_is_left_out_and_the_others_are_compared() -> None:
    (result,) = run("low_precision", lambda x: (x + 1e6) - 1e6, X)
    assert result.verdict is Verdict.CORRECT
    assert "times what rounding explains" in result.details["not run"]["float32"]
    assert result.details["not run"]["float16"] == "the value of y overflows"
    (result,) = run("low_precision", (np.sin, lambda dy: dy), X.numpy())
    assert list(result.details["not run"]) == ["bfloat16"], "which NumPy does not have"


def test_a_forward_that_is_always_in_float64_is_told() -> None:
    (result,) = run("low_precision", lambda x: x.double().sin(), X)
    assert set(result.details["dtypes"].values()) == {"computes in float64 whatever its inputs are"}


def test_a_gradient_that_is_missing_in_one_dtype_alone_is_wrong() -> None:
    (result,) = run("low_precision", NothingInBfloat16, X)
    assert result.verdict is Verdict.WRONG
    assert result.reason == "in bfloat16 the gradient is missing, unlike float64"


def test_a_reference_with_other_outputs_is_named_with_both() -> None:
    (result,) = run("reference_value", lambda x: (x.sin(), x.cos()), X, reference=torch.sin)
    assert result.verdict is Verdict.WRONG
    assert result.reason == "the outputs are y0, y1, those of the reference y"


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(X[0].clone())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.w


class NotCopied(Scale):
    def __deepcopy__(self, memo: object) -> NotCopied:
        raise RuntimeError("one is enough")


class NotPickled(Scale):
    def __deepcopy__(self, memo: object) -> NotPickled:
        return NotPickled()

    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("holds a socket")


class Emptied(Scale):
    def __deepcopy__(self, memo: object) -> Emptied:
        twin = Emptied.__new__(Emptied)
        nn.Module.__init__(twin)
        return twin


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (NotCopied, "deepcopy of NotCopied raised RuntimeError: one is enough"),
        (NotPickled, "pickling NotPickled raised TypeError: holds a socket"),
        (Emptied, "a copy by deepcopy does not work: forward of Emptied raised AttributeError"),
    ],
)
def test_an_object_that_cannot_be_copied_is_wrong(kind: type[Scale], reason: str) -> None:
    (result,) = run("copies", kind(), X)
    assert result.verdict is Verdict.WRONG and reason in (result.reason or "")


class NoInference(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if torch.is_inference_mode_enabled():
            raise RuntimeError("no inference here")
        return x.sin()


class LessWithoutRecording(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return (x.sin(), x.cos()) if torch.is_grad_enabled() else {"y0": x.sin()}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (NoInference, "under inference_mode: forward of NoInference raised RuntimeError: no inference here"),
        (LessWithoutRecording, "the output y1 is missing under no_grad"),
    ],
)
def test_a_forward_that_is_another_one_without_recording_is_wrong(kind: type[nn.Module], reason: str) -> None:
    (result,) = run("without_recording", kind(), X)
    assert result.verdict is Verdict.WRONG and result.reason == reason


class BothOrNone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        if not all(ctx.needs_input_grad):
            raise RuntimeError("both or none")
        return g * w, g * x


def test_a_backward_that_fails_beside_a_frozen_tensor_is_wrong() -> None:
    (result,) = run("frozen_slots", BothOrNone, X, X + 1)
    assert result.verdict is Verdict.WRONG
    assert result.reason == "with x frozen: backward of BothOrNone raised RuntimeError: both or none"


def test_each_of_three_tensors_is_frozen_alone_and_with_another() -> None:
    (result,) = run("frozen_slots", lambda a, b, c: a * b * c, X, X + 1, X + 2)
    assert result.verdict is Verdict.CORRECT


def at_least_two(x: Tensor) -> Tensor:
    if len(x) == 1:
        raise ValueError("two are needed")
    return x.sin()


INDEPENDENT = "the forward does not treat dimension 0 of its inputs as independent samples (measured)"


@pytest.mark.parametrize(
    ("subject", "inputs", "reason"),
    [
        (torch.sin, (X[0, 0],), "no differentiable input has a dimension that could count samples"),
        (torch.sin, (X[:0],), INDEPENDENT),
        (at_least_two, (X,), INDEPENDENT),
        (lambda x: x / x.sum(), (X[:1],), INDEPENDENT),
        (lambda x: x.sum() if len(x) == 2 else x.sin(), (X[:1],), INDEPENDENT),
    ],
)
def test_where_no_samples_can_be_told_apart_the_batch_is_not_checked(
    subject: Callable[..., Tensor], inputs: tuple[Tensor, ...], reason: str
) -> None:
    (result,) = run("batch_consistency", subject, *inputs)
    assert (result.verdict, result.reason) == (Verdict.NOT_APPLICABLE, reason)
