"""Mini-batches of one epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from nn_from_scratch.denoise.data.crops import random_stream
from nn_from_scratch.denoise.data.noisy_pairs import PairSet
from nn_from_scratch.denoise.settings import expect_integer
from nn_from_scratch.errors import ArgumentError, DtypeError


def batches(
    pairs: PairSet,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    part: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the (input, target) batches of one epoch, in an order that only seed and epoch decide.

    Args:
        pairs: the source of the training pairs, N of them.
        batch_size: pairs in a batch, B. The last batch is smaller if B does not divide N.
        seed: at least 0.
        epoch: number of the epoch, at least 0; each has its own order.
        dtype: of the batches, a floating-point one.
        part: (number, of how many) parts into which each batch is cut, of sizes that differ by one at most; the first
            are the larger ones. A batch of fewer pairs than parts leaves some empty.

    Returns:
        An iterator over pairs of tensors (B, 3, H, W) of `dtype` on `device`, values 0 to 1; both are new tensors, and
        on a CPU they lie in memory with the channels last.

    Raises:
        ArgumentError: batch_size, seed or epoch is not an integer or too small; there is no such part.
        DtypeError: dtype is not floating.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("epoch", epoch, 0)):
        expect_integer(value, name=name, least=least)
    if not dtype.is_floating_point:
        raise DtypeError(f"dtype is {dtype}, but a floating-point dtype is expected, for images in [0, 1]")
    number, parts = part
    if not 0 <= number < parts:
        raise ArgumentError(f"part is {part!r}, but the number of a part, from 0, and the number of parts are expected")
    a, b = pairs.train_noisy_a, pairs.train_noisy_b
    order = torch.randperm(len(a), generator=random_stream(seed, "batches", epoch)).to(a.device)
    rows = (order[start : start + batch_size] for start in range(0, len(order), batch_size))
    if parts > 1:
        rows = (some.tensor_split(parts)[number] for some in rows)
    return ((_batch(a, some, device, dtype), _batch(b, some, device, dtype)) for some in rows)


def on_device(pairs: PairSet, device: torch.device) -> PairSet:
    """The same pairs with the training images on the device, lying in memory as `batches` gathers them fastest."""
    layout = _layout(device)
    a, b = (x.to(device).contiguous(memory_format=layout) for x in (pairs.train_noisy_a, pairs.train_noisy_b))
    return replace(pairs, train_noisy_a=a, train_noisy_b=b)


def _layout(device: torch.device) -> torch.memory_format:
    # On a CPU the convolutions read images with the channels last, and so do those that compare with their output.
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def _batch(images: Tensor, some: Tensor, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    if _layout(torch.device(device)) is torch.channels_last:
        pixels = images.permute(0, 2, 3, 1)  # (N, H, W, C)
        drawn = pixels.index_select(0, some).permute(0, 3, 1, 2)  # (B, C, H, W), a pixel's channels side by side
    else:
        drawn = images.index_select(0, some)
    # The bytes travel to the device and become floats there: a quarter of the traffic.
    return drawn.to(device).to(dtype).div_(255)
