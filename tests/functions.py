"""Drawn tensors and custom autograd functions for tests: a value and its vector-Jacobian product, right or wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal entries, float64."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def function(forward: Callable[..., Any], vjp: Callable[..., Any], *, name: str = "Custom") -> Callable[..., Any]:
    """The `apply` of a `torch.autograd.Function`, whose inputs are named as in the signature of `vjp`.

    Args:
        forward: its value; one tensor or several.
        vjp: (cotangent, *inputs) to the gradient of the only input, or to a tuple with one for each.
        name: the name of the class.
    """

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Any:
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor) -> Any:
            return vjp(*cotangents, *ctx.saved_tensors)

    Custom.__name__ = name
    # What stands for the cotangent in vjp stands for the context in forward.
    Custom.forward.__signature__ = inspect.signature(vjp)  # type: ignore[attr-defined]
    return Custom.apply


def altered(forward: Callable[..., Tensor], change: Callable[[Tensor], Tensor | None]) -> Callable[..., Any]:
    """As `function`, with the backward of autograd, but for a change of the gradient of the first input."""

    def vjp(g: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x in inputs]
            first, *rest = torch.autograd.grad(forward(*leaves), leaves, g)
        return (change(first), *rest)

    return function(forward, vjp)
