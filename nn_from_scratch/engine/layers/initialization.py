"""How parameters start."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, DtypeError


def uniform(
    *shape: int,
    fan: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Independent samples of U(-sqrt(k), sqrt(k)) with k = 1 / fan (paper, section II.F).

    For the convolutions fan = c n, the channels that one output (in the transposed case: one input) is connected
    with times the entries of the kernel; this is PyTorch's distribution too.

    Raises:
        DtypeError: the dtype is not a floating-point one.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise DtypeError(f"dtype is {dtype}, but parameters need a floating-point dtype")
    bound = 1 / math.sqrt(fan)
    values = torch.empty(shape, device=device, dtype=dtype)
    return values.uniform_(-bound, bound, generator=generator)


def positive(value: int, *, name: str) -> int:
    """The value, if it is a positive integer.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{name} is {value!r}, but a positive integer is expected")
    return value
