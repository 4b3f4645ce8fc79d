"""Two functions for docs/campaigns.md; the backward of the second has a fault."""

import torch


class Swish(torch.autograd.Function):
    """x sigmoid(x)."""

    @staticmethod
    def forward(ctx, x):
        """Give y."""
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, g):
        """Give dl/dx."""
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return g * (s + x * s * (1 - s))


class Mean(torch.autograd.Function):
    """The mean over the last axis."""

    @staticmethod
    def forward(ctx, x):
        """Give y."""
        ctx.n = x.shape[-1]
        return x.mean(-1)

    @staticmethod
    def backward(ctx, g):
        """Give dl/dx, without the division by n."""
        return g.unsqueeze(-1).expand(*g.shape, ctx.n).contiguous()
