"""Copies of tensors that keep what a kernel can see of them: strides, overlap and storage offset."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError

__all__ = ["dense", "snapshot"]


def _extent(tensor: Tensor) -> int:
    if tensor.numel() == 0:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def snapshot(tensor: Tensor, *, offset: bool = True) -> Tensor:
    """A detached copy with the same shape, dtype, device and strides, in memory of its own.

    An expanded tensor stays expanded. With `offset` the copy begins as far into its memory as the original
    does, so that code which forgets the storage offset is still wrong on it.
    """
    tensor = tensor.detach()
    if tensor.is_conj() or tensor.is_neg():
        return tensor.resolve_conj().resolve_neg().clone()
    if tensor.is_contiguous() and not tensor.storage_offset():
        return tensor.clone()  # the usual case, at a sixth of the price
    start = tensor.storage_offset() if offset else 0
    lead = tensor.storage_offset() - start
    flat = tensor.as_strided((start + _extent(tensor),), (1,), lead).clone()
    return flat.as_strided(tensor.shape, tensor.stride(), start)


def dense(tensor: Tensor, name: str, subject: str) -> Tensor:
    """The tensor itself, if it is an ordinary strided one.

    Raises:
        SubjectError: it is sparse, quantized or nested.
    """
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise SubjectError(
            f"{name} of {subject} has layout "
            f"{tensor.layout}{' and is quantized' if tensor.is_quantized else ''}; "
            "only dense strided tensors can be verified"
        )
    return tensor
