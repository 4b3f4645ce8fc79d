"""Cutting square crops out of pictures.

Axes: N crops, C = 3 channels, H height, W width. Values are uint8, 0 to 255.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, DtypeError, ShapeError

__all__ = ["CROP_SIZE", "cut_crops", "draw_crops"]

#: Height and width of a crop.
CROP_SIZE = 32

#: Crops are cut and corrupted in pieces of this many, so that their float copies stay small.
_PIECE = 1024

_CHANNEL_ORDERS = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])


def cut_crops(picture: Tensor, count: int, generator: torch.Generator, *, vary: bool) -> Tensor:
    """Cut square crops at random positions, which may overlap.

    Args:
        picture: uint8 (3, H, W), H and W at least `CROP_SIZE`.
        count: Number of crops, N.
        generator: What the positions, and with `vary` the variations, are drawn from.
        vary: Mirror half of the crops and put the colour channels of each in a random order. A handful of photographs
            has few colours: without this a network that was trained on warm ones does badly on a blue sky.

    Returns:
        Crops, uint8 (N, 3, CROP_SIZE, CROP_SIZE).

    Raises:
        ArgumentError: count is negative.
        DtypeError: picture is not uint8.
        ShapeError: picture has not the shape above.
    """
    if picture.dtype != torch.uint8:
        raise DtypeError(f"picture has dtype {picture.dtype}; it must be torch.uint8, values 0 to 255")
    if picture.dim() != 3 or picture.shape[0] != 3 or min(picture.shape[1:]) < CROP_SIZE:
        raise ShapeError(
            f"picture has shape {tuple(picture.shape)}; it must be (3, H, W) with H and W at least {CROP_SIZE}"
        )
    if count < 0:
        raise ArgumentError(f"count is {count}; the number of crops must be at least 0")
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
    paths: Sequence[Path],
    count: int,
    generator: torch.Generator,
    *,
    read: Callable[[Path], Tensor | None],
    vary: bool,
) -> Iterator[Tensor]:
    """Cut crops from pictures, equally many from each, with one picture in memory at a time.

    Args:
        paths: The pictures, in the order in which they are drawn from.
        count: Number of crops, N, over all pictures.
        generator: What positions and variations are drawn from.
        read: Gives a picture, uint8 (3, H, W), or None if it cannot be read; its share then goes to the others.
        vary: As in `cut_crops`.

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
