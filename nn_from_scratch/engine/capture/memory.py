"""Places in one block of memory for tensors that do not all live at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Blocks of memory, as bytes.
Blocks = Sequence[NDArray[np.uint8]]
#: Bytes; a place begins where a line of the processor's cache does.
ALIGNMENT = 64


class Arena:
    """A block of memory, and who is where in it at which time.

    Tensors are placed one after the other, each at the lowest address that is free throughout its life: the largest
    first, or as they are born, whichever needs less.

    Args:
        requests: for each key a tensor, the first and the last moment of its life.

    Attributes:
        size: the bytes needed.
        block: the memory in which they are.
        own_bytes: of it, which nobody else had.
    """

    def __init__(self, requests: Mapping[int, tuple[Tensor, int, int]]) -> None:
        self.requests = requests
        orders = (
            sorted(requests, key=lambda key: (-_bytes(requests[key][0]), requests[key][1])),
            sorted(requests, key=lambda key: (requests[key][1], -_bytes(requests[key][0]))),
        )
        self.size, self.offsets = min((self._offsets(order) for order in orders), key=lambda found: found[0])

    def _offsets(self, order: Sequence[int]) -> tuple[int, dict[int, int]]:
        """The bytes needed, and where each is, if they are placed in this order."""
        offsets: dict[int, int] = {}
        placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
        for key in order:
            tensor, first, last = self.requests[key]
            size = -(-_bytes(tensor) // ALIGNMENT) * ALIGNMENT
            offset = 0
            for start, end, born, dies in sorted(placed):
                if born <= last and first <= dies:
                    if offset + size <= start:
                        break
                    offset = max(offset, end)
            placed.append((offset, offset + size, first, last))
            offsets[key] = offset
        return max((end for _, end, _, _ in placed), default=0), offsets

    def place(self, spare: Blocks = ()) -> dict[int, Tensor]:
        """For each key a tensor of the shape, strides and dtype of the one requested, on the CPU, with any values.

        Each has a storage of its own that begins with it, as a tensor that was asked for by itself: a view may be
        taken at a place that counts from there.

        Args:
            spare: blocks of memory that may be used, if one is large enough.
        """
        needed = self.size + ALIGNMENT  # room for a first place that is aligned, wherever the block lies
        block = next((block for block in spare if len(block) >= needed), None)
        self.own_bytes = self.size if block is None else 0
        if block is None:
            block = np.empty(needed, dtype=np.uint8)
        self.block = block
        first = -block.ctypes.data % ALIGNMENT
        found: dict[int, Tensor] = {}
        for key, (like, _, _) in self.requests.items():
            start = first + self.offsets[key]
            if not like.numel():
                found[key] = torch.empty_like(like)
                continue
            own = torch.from_numpy(block[start : start + _bytes(like)])
            found[key] = own.view(like.dtype).as_strided(like.shape, like.stride())
        return found


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
