"""A forward and a backward kernel in Triton, verified on the GPU that they run on.

    python examples/triton_kernel.py

y = silu(a) b, the gate of many transformers. Without a GPU it says so and ends; with TRITON_INTERPRET=1 in the
environment Triton runs the same kernels on the CPU, slowly, which is enough to verify them.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.verify import Report, check

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

BLOCK = 1024


def why_not() -> str | None:
    """The reason for which nothing can run here, or None."""
    if triton is None:
        return "the package triton is not installed"
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        return "there is no CUDA device (TRITON_INTERPRET=1 would run the kernels on the CPU)"
    return None


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def forward_kernel(a_ptr: Any, b_ptr: Any, y_ptr: Any, n: Any, BLOCK: tl.constexpr) -> None:
        """Write y = a σ(a) b for n entries that lie one behind the other."""
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = i < n
        a = tl.load(a_ptr + i, mask=inside)
        b = tl.load(b_ptr + i, mask=inside)
        s = 1 / (1 + tl.exp(-a))
        tl.store(y_ptr + i, a * s * b, mask=inside)

    @triton.jit  # type: ignore[untyped-decorator]
    def backward_kernel(
        a_ptr: Any, b_ptr: Any, g_ptr: Any, da_ptr: Any, db_ptr: Any, n: Any, BLOCK: tl.constexpr
    ) -> None:
        """Write both gradients: da = g b s (1 + a (1 - s)) and db = g a s with s = σ(a)."""
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = i < n
        a = tl.load(a_ptr + i, mask=inside)
        b = tl.load(b_ptr + i, mask=inside)
        g = tl.load(g_ptr + i, mask=inside)
        s = 1 / (1 + tl.exp(-a))
        tl.store(da_ptr + i, g * b * s * (1 + a * (1 - s)), mask=inside)
        tl.store(db_ptr + i, g * a * s, mask=inside)


class SiluTimes(torch.autograd.Function):
    """y = silu(a) b, entry by entry, for a and b of one shape and dtype."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        """Give y of their shape."""
        # The kernels walk through memory in one line: any other layout has to be laid out first.
        a, b = a.contiguous(), b.contiguous()
        ctx.save_for_backward(a, b)
        y = torch.empty_like(a)
        if y.numel():
            forward_kernel[(triton.cdiv(y.numel(), BLOCK),)](a, b, y, y.numel(), BLOCK=BLOCK)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        """Give the gradients of a and of b."""
        a, b = ctx.saved_tensors
        # Without this the gradients are wrong as soon as a transpose follows the layer; gradcheck does not notice.
        g = g.contiguous()
        da, db = torch.empty_like(a), torch.empty_like(b)
        if a.numel():
            backward_kernel[(triton.cdiv(a.numel(), BLOCK),)](a, b, g, da, db, a.numel(), BLOCK=BLOCK)
        return da, db


def main() -> Report | None:
    """Verify the kernels, print and give the report; None where they cannot run."""
    reason = why_not()
    if reason is not None:
        print(f"nothing was verified: {reason}")
        return None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    # More entries than one block, and not a multiple of it: the mask at the end is where such kernels go wrong.
    a, b = (torch.randn(3, 7, 61, dtype=torch.float64, generator=generator).to(device) for _ in range(2))
    report = check(SiluTimes, a, b)
    print(report)
    return report


if __name__ == "__main__":
    result = main()
    sys.exit(0 if result is None or result.passed else 1)
