"""Second derivatives: silently wrong ones are found, with their cause; right and refused ones are not accused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nn_from_scratch.verify import check
from nn_from_scratch.verify.results import CheckResult, Verdict
from tests.functions import draw

X, W = draw(3, 4), draw(3, 4, seed=1)


class SavedIntermediate(torch.autograd.Function):
    """x sigmoid(x), which saves the sigmoid: a constant to a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, s = ctx.saved_tensors
        return g * (s + x * s * (1 - s))


class Detached(torch.autograd.Function):
    """(x w)^2, whose backward detaches x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return (x * w).square()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = (ctx.saved_tensors[0].detach(), ctx.saved_tensors[1])
        return 2 * g * x * w * w, 2 * g * x * x * w


class NormalizedRows(torch.autograd.Function):
    """A layer norm, which saves what it normalized."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        scale = (centered.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        y = centered * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        y, scale = ctx.saved_tensors
        return scale * (g - g.mean(-1, keepdim=True) - y * (g * y).mean(-1, keepdim=True))


class WrongInside(torch.autograd.Function):
    """The cube, whose backward calls a function with a wrong derivative of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * g * _Square.apply(x)


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g * ctx.saved_tensors[0]  # the factor 2 is gone


class SavedOutput(torch.autograd.Function):
    """exp, which saves its output: that is no constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g * ctx.saved_tensors[0]


class Recomputing(torch.autograd.Function):
    """x sigmoid(x), which computes the sigmoid again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * (s + x * s * (1 - s))


class Separate(torch.autograd.Function):
    """A product, with its context set up apart."""

    @staticmethod
    def forward(x: Tensor, w: Tensor) -> Tensor:
        return x * w

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return g * w, g * x


class Mask(torch.autograd.Function):
    """relu, which saves a mask: an intermediate whose derivative is zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mask = (x > 0).to(x.dtype)
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g * ctx.saved_tensors[0]


class Tripled(torch.autograd.Function):
    """Linear: the backward does not depend on x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 3 * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return 3 * g


class OnceDifferentiable(torch.autograd.Function):
    """The fault of `SavedIntermediate`, and the promise never to be differentiated again."""

    forward = SavedIntermediate.forward

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        return SavedIntermediate.backward(ctx, g)


class InNumPy(torch.autograd.Function):
    """The square, whose backward goes through NumPy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return torch.from_numpy(2 * g.detach().numpy() * x.detach().numpy())


class WrongOutputGradient(torch.autograd.Function):
    """exp with the wrong sign, through which the saved output is differentiated again."""

    forward = SavedOutput.forward

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return -g * ctx.saved_tensors[0] ** 2


class Layer(nn.Module):
    """Parameters and a Function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(draw(4, seed=2))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function.apply(x * self.weight)
        return y


def second_order(subject: Any, *inputs: Any, level: Any = "quick") -> tuple[CheckResult, ...]:
    return check(subject, *inputs, checks="second_order", level=level).results


@pytest.mark.parametrize(
    ("subject", "inputs", "tensors", "cause"),
    [
        (SavedIntermediate, (X,), {"x"}, "uses what its forward computed and saved (of shape [3, 4])"),
        (NormalizedRows, (X,), {"x"}, "uses what its forward computed and saved (of shape [3, 1])"),
        (Detached, (X, W), {"x"}, "treats x as a constant, by .detach()"),
        (WrongInside, (X,), {"x"}, "a part of the backward is not seen by autograd, or has a wrong derivative"),
        (Layer(SavedIntermediate), (X,), {"x", "weight"}, "computed and saved"),
    ],
)
def test_a_silently_wrong_second_derivative_is_found_by_this_check_alone(
    subject: Any, inputs: Any, tensors: set[str], cause: str
) -> None:
    found = check(subject, *inputs).results
    fragile = [result for result in found if result.verdict in (Verdict.FRAGILE, Verdict.WRONG)]
    assert {(result.check, result.tensor) for result in fragile} == {("second_order", name) for name in tensors}
    assert all(cause in (result.reason or "") for result in fragile)
    assert all("once_differentiable" in (result.reason or "") for result in fragile)


@pytest.mark.parametrize(
    ("subject", "inputs"),
    [
        (SavedOutput, (X,)),
        (Recomputing, (X,)),
        (Separate, (X, W)),
        (Mask, (X,)),
        (Tripled, (X,)),
        (Layer(Recomputing), (X,)),
        (lambda x, w: Recomputing.apply(x @ w.T).sum(), (X, W)),
    ],
)
def test_a_right_second_derivative_is_correct(subject: Any, inputs: Any) -> None:
    assert [result.verdict for result in second_order(subject, *inputs)] == [Verdict.CORRECT]


def test_a_wrong_first_derivative_is_not_accused_twice() -> None:
    (result,) = second_order(WrongOutputGradient, X)
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert "first derivative is wrong" in (result.reason or "")


def test_a_backward_that_refuses_is_not_accused() -> None:
    (result,) = second_order(OnceDifferentiable, X)
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert "second derivative refused" in (result.reason or "")


def test_a_backward_out_of_sight_is_a_limit() -> None:
    (result,) = second_order(InNumPy, X)
    assert result.verdict is Verdict.LIMIT
    assert "once_differentiable" in (result.reason or "")
    assert check(InNumPy, X).passed


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (torch.sin, "PyTorch's own"),
        ((lambda x: x.sin(), lambda x, g: g * x.cos()), "leaves no graph"),
    ],
)
def test_what_it_does_not_apply_to(subject: Any, reason: str) -> None:
    (result,) = second_order(subject, X)
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert reason in (result.reason or "")


@pytest.mark.parametrize("subject", [torch.sin, nn.LayerNorm(4).double(), lambda x: x.softmax(-1)])
def test_level_full_looks_at_pytorchs_own_backward_too(subject: Any) -> None:
    assert [result.verdict for result in second_order(subject, X, level="full")] == [Verdict.CORRECT]


def test_a_random_subject_draws_the_same_numbers() -> None:
    (result,) = second_order(lambda x: Recomputing.apply(nn.functional.dropout(x, 0.5)), X)
    assert result.verdict is Verdict.CORRECT


def test_what_cancels_in_the_second_derivative_is_no_finding() -> None:
    # Beside entries of 10^4 the second derivative is zero but for the rounding of terms that cancel.
    x = (1e4 * draw(5, 5)).requires_grad_()
    (result,) = second_order(lambda x: x.logcumsumexp(0), x, level="full")
    assert result.verdict in (Verdict.CORRECT, Verdict.NOT_APPLICABLE)
