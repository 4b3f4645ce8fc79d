"""Cutting square crops out of pictures, at places from independent streams of random numbers.

Axes: N crops, C = 3 channels, H height, W width. Values are uint8, 0 to 255.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, DtypeError, ShapeError

#: Height and width of a crop.
CROP_SIZE = 32

#: Crops are cut and corrupted in pieces of this many, so that their float copies stay small.
_PIECE = 1024

_CHANNEL_ORDERS = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])


def random_stream(seed: int, *purpose: str | int) -> torch.Generator:
    """The generator of one purpose, decided by the seed; those of different purposes are independent of one another."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def cut_crops(picture: Tensor, count: int, generator: torch.Generator, *, vary: bool) -> Tensor:
    """Cut square crops at random positions, which may overlap.

    Args:
        picture: uint8 (3, H, W), H and W at least `CROP_SIZE`.
        generator: source of the positions, and with `vary` of the variations.
        vary: mirror half of the crops and put the color channels of each in a random order. A handful of photographs
            has few colors: without this a network that was trained on warm ones does badly on a blue sky.

    Returns:
        Crops, uint8 (N, 3, CROP_SIZE, CROP_SIZE).

    Raises:
        ArgumentError: count is negative.
        DtypeError: picture is not uint8.
        ShapeError: picture has another shape.
    """
    if picture.dtype != torch.uint8:
        raise DtypeError(f"picture has dtype {picture.dtype}, but torch.uint8 is expected, values 0 to 255")
    if picture.dim() != 3 or picture.shape[0] != 3 or min(picture.shape[1:]) < CROP_SIZE:
        raise ShapeError(
            f"picture has shape {tuple(picture.shape)}, but (3, H, W) with H and W at least {CROP_SIZE} is expected"
        )
    if count < 0:
        raise ArgumentError(f"count is {count}, but a number of crops of at least 0 is expected")
    _, H, W = picture.shape
    windows = picture.unfold(1, CROP_SIZE, 1).unfold(2, CROP_SIZE, 1)  # (3, H - 31, W - 31, 32, 32), a view
    top = torch.randint(0, H - CROP_SIZE + 1, (count,), generator=generator)
    left = torch.randint(0, W - CROP_SIZE + 1, (count,), generator=generator)
    crops = windows[:, top, left].transpose(0, 1)  # (N, 3, 32, 32)
    if vary:
        order = _CHANNEL_ORDERS[torch.randint(0, len(_CHANNEL_ORDERS), (count,), generator=generator)]  # (N, 3)
        crops = crops[torch.arange(count)[:, None], order]
        mirrored = torch.rand(count, generator=generator) < 0.5
        crops[mirrored] = crops[mirrored].flip(-1)
    return crops.contiguous()


def draw_crops(
    paths: Sequence[Path], count: int, generator: torch.Generator, *, read: Callable[[Path], Tensor | None], vary: bool
) -> Iterator[Tensor]:
    """Cut crops from pictures, equally many from each, with one picture in memory at a time.

    Args:
        paths: the pictures, in the order in which they are read.
        count: number of crops, N, over all pictures.
        generator, vary: as in `cut_crops`.
        read: gives a picture, uint8 (3, H, W), or None if it cannot be read; its share then goes to the others.

    Yields:
        Crops, uint8 (n, 3, CROP_SIZE, CROP_SIZE), picture by picture; the n sum to N unless no picture can be read.
    """
    while count > 0 and paths:
        readable = []
        for number, path in enumerate(paths):
            wanted = -(-count // (len(paths) - number))  # rounded up; what a failed picture leaves is shared too
            picture = read(path) if wanted > 0 else None
            if picture is None:
                continue
            readable.append(path)
            count -= wanted
            for start in range(0, wanted, _PIECE):
                yield cut_crops(picture, min(_PIECE, wanted - start), generator, vary=vary)
        # Only when the last pictures failed is anything left for a second round over the others.
        paths = readable
