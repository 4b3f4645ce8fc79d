"""Functions with a backward that the test chooses, and the gradient check of one input, for this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.gradients import check_gradient
from nn_from_scratch.verify.results import CheckResult
from nn_from_scratch.verify.subjects import as_subject

Vjp = Callable[[Tensor, Tensor], Tensor]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def custom(forward: Callable[[Tensor], Tensor], vjp: Vjp) -> Callable[..., Any]:
    """A function of one tensor from its value and its vector-Jacobian product (cotangent, x)."""

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return forward(x)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return vjp(g, *ctx.saved_tensors)

    return Custom.apply


def altered(forward: Callable[[Tensor], Tensor], fault: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """A function whose gradient is the right one with a fault."""

    def vjp(g: Tensor, x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (right,) = torch.autograd.grad(forward(leaf), leaf, g)
        return fault(right)

    return custom(forward, vjp)


def only(subject: object, x: Tensor, **options: Any) -> CheckResult:
    """The result of the gradient check of a function of one tensor."""
    (result,) = check_gradient(as_subject(subject, x), CheckContext(**options))
    return result
