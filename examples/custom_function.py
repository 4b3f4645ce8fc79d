"""A torch.autograd.Function with a fault in its backward, found, named and mended.

    python examples/custom_function.py

The forward is a layer normalization. The first backward takes the deviation for a constant, which makes a network learn
a little worse and nothing crash. The second one is right.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nn_from_scratch.verify import Report, check


class Wrong(torch.autograd.Function):
    """y = γ (x - mean) / σ over the last axis, with the term of σ left out of its backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        """Give y, of x's shape; gain has the shape of its last axis."""
        centered = x - x.mean(-1, keepdim=True)
        sigma = (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        z = centered / sigma
        ctx.save_for_backward(z, sigma, gain)
        return gain * z

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        """Give the gradients of x and of the gain."""
        z, sigma, gain = ctx.saved_tensors
        dz = gain * g
        dx = (dz - dz.mean(-1, keepdim=True)) / sigma
        return dx, (g * z).flatten(0, -2).sum(0)


class Right(Wrong):
    """The same forward, with the whole of its backward.

    It uses what the forward computed, which a second derivative would take for constants: that one is refused.
    """

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        """Give the gradients of x and of the gain."""
        z, sigma, gain = ctx.saved_tensors
        dz = gain * g
        dx = (dz - dz.mean(-1, keepdim=True) - z * (dz * z).mean(-1, keepdim=True)) / sigma
        return dx, (g * z).flatten(0, -2).sum(0)


def main() -> tuple[Report, Report]:
    """Verify both, print what is found, and give the two reports."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 6, dtype=torch.float64, generator=generator)
    gain = 0.5 + torch.rand(6, dtype=torch.float64, generator=generator)
    reports = check(Wrong, x, gain), check(Right, x, gain)
    for report in reports:
        print(report, end="\n\n")
    return reports


if __name__ == "__main__":
    main()
