"""A training step of ours beside eager PyTorch's, as the batch, the image or the network grows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from nn_from_scratch.bench.duels import Duel, Side
from nn_from_scratch.bench.rows import our_step, torch_step

__all__ = ["POINTS", "scaling_duels"]

#: What grows while the rest stays at a batch of 16, images of 32 x 32 and 16 channels.
POINTS: dict[str, tuple[int, ...]] = {
    "batch": (16, 32, 64, 128, 256, 512, 1024),
    "image": (32, 64, 128, 256),
    "channels": (16, 32, 64, 128, 256),
}
_BASE = {"batch": 16, "image": 32, "channels": 16}
_QUICK = 2


def scaling_duels(*, quick: bool = False, device: str = "cpu", optimizer: str = "SGD with momentum") -> list[Duel]:
    """A case for each point.

    Args:
        quick: the first two sizes of each kind alone.
        device: where.
        optimizer: a name of `rows.OPTIMIZERS`.
    """
    return [
        Duel(f"{name} {size}", partial(_sides, {**_BASE, name: size}, device, optimizer))
        for name, sizes in POINTS.items()
        for size in (sizes[:_QUICK] if quick else sizes)
    ]


def _sides(point: dict[str, int], device: str, optimizer: str) -> tuple[Side, Side]:
    generator = torch.Generator().manual_seed(0)
    shape = (point["batch"], 3, point["image"], point["image"])
    x, y = (torch.rand(shape, generator=generator).to(device) for _ in range(2))
    layout = torch.channels_last if x.device.type == "cpu" else torch.contiguous_format
    mine = [t.contiguous(memory_format=layout) for t in (x, y)]  # as `data.batches` hands them to training
    our, their = (make(x, optimizer, channels=point["channels"]) for make in (our_step, torch_step))

    def ours() -> Sequence[Tensor | None]:
        return (our(*mine),)

    def theirs() -> Sequence[Tensor | None]:
        return (their(x, y),)

    return ours, theirs
