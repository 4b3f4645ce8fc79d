"""One gradient out of those of several processes, each of which has seen a part of the batch.

The loss of a batch of n pairs is the mean of theirs. So if rank r has n_r of them and the gradient g_r of its own
mean, that of the whole batch is (sum of n_r g_r) / n, whatever the parts: a rank without any pair counts with n_r = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from nn_from_scratch.engine.module import Module


def average_gradients(model: Module, loss: Tensor | None, *, count: int, add_up: Callable[[Tensor], object]) -> Tensor:
    """Replace the gradients of every rank by those of the whole batch, with one exchange of one flat tensor.

    Every rank calls this at the same time. What stays None is what no rank has a gradient of, so that an optimizer
    leaves alone what it would leave alone in one process. Floating-point buffers, such as running statistics, become
    their mean over the pairs too, and counters that of the ranks with pairs: afterwards all ranks hold the same.

    Args:
        model: of the same structure on every rank; its gradients are those of this rank's mean loss.
        loss: that mean, of shape (); None without any pair.
        count: pairs of this rank, n_r.
        add_up: replaces a tensor by its sum over the ranks, in place.

    Returns:
        The sum of the losses of all pairs of the batch, of shape ().
    """
    parameters = list(model.parameters().values())
    buffers = list(model.buffers().values())
    dtype = _common_dtype(parameters, buffers)
    device = parameters[0].device
    present = [p.grad is not None for p in parameters]
    averaged = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters] + buffers
    averaged.append(torch.zeros((), device=device) if loss is None else loss)
    # Numbers of one tensor: one exchange costs one delay, however many parameters there are.
    weighted = torch.cat([tensor.detach().reshape(-1).to(dtype) for tensor in averaged]).mul_(count)
    counts = torch.tensor([*present, count], dtype=dtype, device=device)
    flat = torch.cat([weighted, counts])
    add_up(flat)
    sums, counts = flat[: len(weighted)], flat[len(weighted) :].real
    loss_sum = sums[-1].real.clone()
    pieces = torch.split(sums.div_(counts[-1]), [tensor.numel() for tensor in averaged])
    # Asking for a number makes the processor wait for the device, so it is asked for only where it can matter.
    anywhere = present if count and all(present) else [value > 0 for value in counts[:-1].tolist()]
    with torch.no_grad():
        for p, piece, some in zip(parameters, pieces, anywhere, strict=False):
            p.grad = _as(piece, p) if some else None
        for buffer, piece in zip(buffers, pieces[len(parameters) :], strict=False):
            buffer.copy_(_as(piece, buffer))
    return loss_sum


def _as(piece: Tensor, like: Tensor) -> Tensor:
    values = piece if like.is_complex() else piece.real
    if not (like.is_floating_point() or like.is_complex()):
        values = values.round()
    return values.reshape(like.shape).to(like.dtype)


def _common_dtype(parameters: Sequence[Tensor], buffers: Sequence[Tensor]) -> torch.dtype:
    """One that loses nothing: half precision would round a sum, and float32 a counter of steps."""
    counters = any(not (buffer.is_floating_point() or buffer.is_complex()) for buffer in buffers)
    least = torch.float64 if counters else torch.float32
    return reduce(torch.promote_types, [p.dtype for p in parameters], least)
