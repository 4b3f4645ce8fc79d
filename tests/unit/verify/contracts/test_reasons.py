"""What the contract checks say: reasons, details and options; of subjects that refuse something, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import CONTRACTS
from nn_from_scratch.verify.contracts.constants import LOW_DTYPES
from nn_from_scratch.verify.results import CheckResult, Verdict
from nn_from_scratch.verify.subjects import as_subject
from tests.functions import draw, function

X = draw(4, 5)
W = draw(3, 5, seed=1)


def results(name: str, subject: Any, *inputs: Any, **options: Any) -> list[CheckResult]:
    return CONTRACTS[name](as_subject(subject, *inputs), CheckContext(options=options))


def run(name: str, subject: Any, *inputs: Any, **options: Any) -> CheckResult:
    """The result of a check but for its limits."""
    (result,) = (found for found in results(name, subject, *inputs, **options) if found.verdict is not Verdict.LIMIT)
    return result


def limits(name: str, subject: Any, *inputs: Any) -> list[str]:
    return [found.reason or "" for found in results(name, subject, *inputs) if found.verdict is Verdict.LIMIT]


@pytest.mark.parametrize(
    ("name", "subject", "reason"),
    [
        ("reference_value", torch.sin, "no reference was given"),
        ("accumulation", torch.sin, "the gradients are returned"),
        ("missing_cotangent", torch.sin, "one differentiable output"),
        ("frozen_slots", torch.sin, "one differentiable tensor"),
        ("copies", torch.sin, "no state to copy"),
        ("batch_consistency", lambda x: x / x.sum(), "treats no dimension"),
        ("cotangent_layouts", torch.sum, "one layout"),
        ("two_forwards", (np.sin, lambda dy: dy), "remembers one forward pass"),
        ("tensor_used_twice", (lambda x: (x, None), lambda dy, cache: dy), "nothing sums"),
        ("other_device", (np.sin, lambda dy: dy), "lives on the CPU"),
    ],
)
def test_a_check_that_does_not_apply_says_why(name: str, subject: Any, reason: str) -> None:
    result = run(name, subject, X.numpy() if isinstance(subject, tuple) else X)
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert reason in (result.reason or "")


def test_a_reference_gets_inputs_and_parameters() -> None:
    module = nn.Linear(5, 3).double()
    assert run("reference_value", module, X, reference=F.linear).verdict is Verdict.CORRECT
    result = run("reference_value", module, X, reference=lambda x, w, b: F.linear(x, w))
    assert result.verdict is Verdict.WRONG
    assert result.mismatch is not None and result.mismatch.total == 12


def test_a_random_forward_is_undecided() -> None:
    result = run("determinism", lambda x: x * torch.rand_like(x), X)
    assert result.verdict is Verdict.UNDECIDED
    assert "nondeterministic: two identical forward passes differ" in (result.reason or "")


def test_a_tolerance_for_nondeterminism_is_stated() -> None:
    shaky = function(torch.clone, lambda g, x: g * (1 + 1e-8 * torch.rand_like(g)))
    assert run("determinism", shaky, X).verdict is Verdict.WRONG
    result = run("determinism", shaky, X, nondeterminism=1e-6)
    assert result.verdict is Verdict.CORRECT
    assert "1e-06 of the largest entry" in str(result.details["tolerance"])


def test_the_batched_inputs_are_found() -> None:
    result = run("batch_consistency", F.linear, X, W)
    assert (result.verdict, result.details["batched"]) == (Verdict.CORRECT, ["input0"])


def test_a_single_sample_is_extended() -> None:
    assert run("batch_consistency", F.linear, X[:1], W).verdict is Verdict.CORRECT


def test_a_forward_that_refuses_a_layout_is_a_limit() -> None:
    def particular(x: Tensor) -> Tensor:
        if not x.is_contiguous():
            raise ValueError("contiguous tensors only")
        return x.sin()

    found = results("input_layouts", particular, X)
    assert {result.verdict for result in found} == {Verdict.LIMIT}
    assert len(found) == 3 and all("contiguous tensors only" in (result.reason or "") for result in found)


def test_a_gradient_that_is_the_cotangent_is_said() -> None:
    result = run("no_aliasing", (lambda a, b: (a + b, None), lambda dy, cache: (dy, dy)), X.numpy(), X.numpy() + 1)
    assert result.verdict is Verdict.CORRECT
    assert "is (a view of) the cotangent" in (result.reason or "")


def test_low_precision_says_what_it_skipped() -> None:
    result = run("low_precision", (lambda x: x**2, lambda dy: dy), X.numpy())
    assert "bfloat16" in str(result.details["not run"])


def test_results_do_not_depend_on_other_tensors() -> None:
    alone = run("linear_cotangent", torch.sin, X)
    assert run("linear_cotangent", torch.sin, X) == alone


def in_float64_alone(x: Tensor) -> Tensor:
    if x.dtype != torch.float64:
        raise ValueError("float64 only")
    return x.sin()


def in_float32_alone(x: Tensor) -> Tensor:
    if x.dtype == torch.float64:
        raise ValueError("float32 only")
    return x.sin()


@pytest.mark.parametrize(
    ("subject", "x", "reason"),
    [
        (lambda n: n + 1, torch.arange(3), "no input and no parameter is a real floating-point tensor"),
        (torch.sin, X * 1e-60, "no low dtype could be run (float32: input0 underflows; bfloat16: input0 underflows"),
        (in_float32_alone, X.float(), "there is no float64 to compare with: forward of in_float32_alone raised"),
        (lambda x: x.float().sin(), X, "the forward does not compute in float64 on float64 inputs"),
        (lambda x: (x - 10).log(), X, "float32: the float64 value or gradient is not finite"),
        (lambda x: x * 1e39, X, "float32: the value of y overflows"),
        (lambda x: x * 1e-60, X, "float32: the value of y underflows"),
    ],
)
def test_what_keeps_a_low_dtype_from_being_compared_is_said(
    subject: Callable[[Tensor], Tensor], x: Tensor, reason: str
) -> None:
    result = run("low_precision", subject, x)
    assert result.verdict is Verdict.NOT_APPLICABLE and reason in str(result)


def test_a_low_dtype_that_is_refused_is_a_limit() -> None:
    found = limits("low_precision", in_float64_alone, X)
    assert [reason.split(" raised")[0] for reason in found] == [
        f"in {dtype} the forward does not run: forward of in_float64_alone" for dtype in LOW_DTYPES
    ]
    no_kernel = function(torch.sin, lambda g, x: g * x.cos() if x.dtype != torch.float16 else no_such_kernel())
    assert ["in float16 backward of " in reason for reason in limits("low_precision", no_kernel, X)] == [True]
    assert run("low_precision", no_kernel, X).verdict is Verdict.CORRECT, "in the other dtypes"


def no_such_kernel() -> Tensor:
    raise NotImplementedError("not implemented for 'Half'")


def test_a_dtype_whose_value_is_lost_is_left_out_and_the_others_are_compared() -> None:
    result = run("low_precision", lambda x: (x + 1e6) - 1e6, X)
    assert result.verdict is Verdict.CORRECT
    assert "times what rounding explains" in result.details["not run"]["float32"]
    assert result.details["not run"]["float16"] == "the value of y overflows"
    result = run("low_precision", (np.sin, lambda dy: dy), X.numpy())
    assert list(result.details["not run"]) == ["bfloat16"], "which NumPy does not have"


def test_a_forward_that_is_always_in_float64_is_told() -> None:
    result = run("low_precision", lambda x: x.double().sin(), X)
    assert set(result.details["dtypes"].values()) == {"computes in float64 whatever its inputs are"}


def test_a_gradient_that_is_missing_in_one_dtype_alone_is_fragile() -> None:
    nothing_in_bfloat16 = function(torch.sin, lambda g, x: None if x.dtype == torch.bfloat16 else g * x.cos())
    result = run("low_precision", nothing_in_bfloat16, X)
    assert result.verdict is Verdict.FRAGILE
    assert result.reason == "in bfloat16 the gradient is missing, unlike float64"


def test_a_cotangent_or_an_empty_batch_that_is_refused_is_a_limit() -> None:
    viewed = function(torch.sin, lambda g, x: g.view(-1).view(g.shape) * x.cos())
    found = limits("cotangent_layouts", viewed, X)
    assert [reason.partition(":")[0] for reason in found] == [
        f"with a {layout} cotangent" for layout in ("transposed", "strided (every second entry)")
    ]
    assert run("cotangent_layouts", viewed, X).verdict is Verdict.CORRECT, "in the layout that is left, an expanded one"

    def at_least_one(g: Tensor, x: Tensor) -> Tensor:
        assert len(g), "an empty batch"
        return g * x.cos()

    (reason,) = limits("batch_consistency", function(torch.sin, at_least_one), X)
    assert reason.startswith("at N = 0, which the forward accepts, backward of ")
    assert run("batch_consistency", function(torch.sin, at_least_one), X).verdict is Verdict.CORRECT


def test_a_function_of_memory_has_other_values_for_other_strides_and_is_not_accused() -> None:
    found = results("input_layouts", lambda x: x.as_strided((2, 2), (1, 2)), X)
    assert {result.verdict for result in found} <= {Verdict.LIMIT, Verdict.CORRECT}
    assert "the forward value differs for a transposed x" in str(found[-3].reason)


def test_a_cotangent_of_nan_may_be_refused_or_swallowed() -> None:
    swallowed = function(torch.sin, lambda g, x: g.nan_to_num() * x.cos())
    assert limits("hidden_infinities", swallowed, X)[0].startswith(
        "nan in one entry of the cotangent of y is hidden in"
    )

    def refuse(g: Tensor, x: Tensor) -> Tensor:
        if not bool(g.isfinite().all()):
            raise ValueError("diverged")
        return g * x.cos()

    reasons = limits("hidden_infinities", function(torch.sin, refuse), X)
    assert reasons and all("raised ValueError: diverged" in reason for reason in reasons)


def test_a_statistic_that_a_forward_keeps_up_to_date_is_a_limit() -> None:
    mean, variance = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)

    def normalized(x: Tensor, m: Tensor, v: Tensor) -> Tensor:
        return F.batch_norm(x, m, v, training=True)

    found = limits("unmodified", normalized, X.clone().requires_grad_(), mean, variance)
    assert [reason.split(" (")[0] for reason in found] == [f"forward modifies {name} in place" for name in "mv"]
    assert run("unmodified", normalized, X.clone().requires_grad_(), mean, variance).verdict is Verdict.CORRECT
    spoiled = function(lambda x, m: x.sin() * m.detach().abs_(), lambda g, x, m: (g * x.cos() * m.abs(), None))
    both = run("unmodified", spoiled, X, X + 0)
    assert (both.verdict, both.tensor) == (Verdict.WRONG, "m"), "a tensor that has a gradient"


def test_the_rounding_of_a_large_cotangent_is_not_a_backward_that_is_not_linear() -> None:
    for seed in range(3):
        assert run("linear_cotangent", torch.matrix_exp, 2 * draw(5, 5, seed=seed)).verdict is Verdict.CORRECT


def test_what_is_left_of_products_that_cancel_is_as_exact_as_these() -> None:
    x = torch.tensor([[40.0, 20.0, 0.0], [3000.0, 2983.0, 1.0]], dtype=torch.float64)
    for seed in range(3):
        assert run("linear_cotangent", lambda x: x.softmax(-1), x - seed).verdict is Verdict.CORRECT
    scaled = function(lambda x: x.softmax(-1), lambda g, x: softmax_vjp(g * (1 + 1e-3 * (g.abs() > 1)), x))
    assert run("linear_cotangent", scaled, X).verdict is Verdict.WRONG


def softmax_vjp(g: Tensor, x: Tensor) -> Tensor:
    y = x.softmax(-1)
    return y * (g - (g * y).sum(-1, keepdim=True))


def test_a_reference_with_other_outputs_is_named_with_both() -> None:
    result = run("reference_value", lambda x: (x.sin(), x.cos()), X, reference=torch.sin)
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
    ("made", "reason"),
    [
        (NotCopied, "deepcopy of NotCopied raised RuntimeError: one is enough"),
        (NotPickled, "pickling NotPickled raised TypeError: holds a socket"),
    ],
)
def test_an_object_that_cannot_be_copied_has_a_limit(made: type[Scale], reason: str) -> None:
    (limit,) = limits("copies", made(), X)
    assert limit == reason
    assert not any(result.verdict is Verdict.WRONG for result in results("copies", made(), X))


class LosesOffset(Scale):
    """A copy that computes something else."""

    offset = 1.0

    def __deepcopy__(self, memo: object) -> LosesOffset:
        twin = LosesOffset()
        twin.offset = 0.0
        return twin

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.w + self.offset) ** 2


def test_a_copy_that_computes_something_else_is_wrong() -> None:
    assert all(found.verdict is Verdict.WRONG for found in results("copies", LosesOffset(), X))
    result = run("copies", Emptied(), X)
    assert result.verdict is Verdict.WRONG
    assert "a copy by deepcopy does not work: forward of Emptied raised AttributeError" in (result.reason or "")


class NoInference(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if torch.is_inference_mode_enabled():
            raise RuntimeError("no inference here")
        return x.sin()


class LessWithoutRecording(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return (x.sin(), x.cos()) if torch.is_grad_enabled() else {"y0": x.sin()}


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (NoInference, "under inference_mode: forward of NoInference raised RuntimeError: no inference here"),
        (LessWithoutRecording, "the output y1 is missing under no_grad"),
    ],
)
def test_a_forward_that_is_another_one_without_recording_is_wrong(made: type[nn.Module], reason: str) -> None:
    result = run("without_recording", made(), X)
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


def test_a_backward_that_fails_beside_a_frozen_tensor_has_a_limit() -> None:
    (first, _) = limits("frozen_slots", BothOrNone, X, X + 1)
    assert first == "with x frozen: backward of BothOrNone raised RuntimeError: both or none"


def test_each_of_three_tensors_is_frozen_alone_and_with_another() -> None:
    result = run("frozen_slots", lambda a, b, c: a * b * c, X, X + 1, X + 2)
    assert result.verdict is Verdict.CORRECT


def at_least_two(x: Tensor) -> Tensor:
    if len(x) == 1:
        raise ValueError("two are needed")
    return x.sin()


INDEPENDENT = "the forward treats no dimension of its inputs as independent samples (measured)"


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
    result = run("batch_consistency", subject, *inputs)
    assert (result.verdict, result.reason) == (Verdict.NOT_APPLICABLE, reason)
