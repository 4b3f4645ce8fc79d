"""Places in one block of memory for tensors that do not all live at the same time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

#: Bytes; a place begins where a line of the processor's cache does.
ALIGNMENT = 64


class Arena:
    """A block of memory, and who is where in it at which time.

    The largest tensors are placed first, each at the lowest address that is free throughout its life.

    Args:
        requests: for each key a tensor, the first and the last moment of its life.
    """

    def __init__(self, requests: Mapping[int, tuple[Tensor, int, int]]) -> None:
        self.requests = requests
        self.offsets: dict[int, int] = {}
        self.size = 0
        placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
        for key, (tensor, first, last) in sorted(requests.items(), key=lambda item: (-_bytes(item[1][0]), item[1][1])):
            size = -(-_bytes(tensor) // ALIGNMENT) * ALIGNMENT
            offset = 0
            for start, end, born, dies in sorted(placed):
                if born <= last and first <= dies:
                    if offset + size <= start:
                        break
                    offset = max(offset, end)
            placed.append((offset, offset + size, first, last))
            self.offsets[key] = offset
            self.size = max(self.size, offset + size)

    def place(self) -> dict[int, Tensor]:
        """For each key a tensor of the shape, strides and dtype of the one requested, on the CPU, with any values.

        Each has a storage of its own that begins with it, as a tensor that was asked for by itself: a view may be
        taken at a place that counts from there.
        """
        # Room for a first place that is aligned, wherever the block lies.
        block = np.empty(self.size + ALIGNMENT, dtype=np.uint8)
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
