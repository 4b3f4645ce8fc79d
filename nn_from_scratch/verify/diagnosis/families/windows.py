"""The windows of a pooling or a convolution: their entries, and back to the entries of x that they come from."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class Windows:
    """Windows without dilation over one or two axes; 1-D is 2-D with a height of one."""

    def __init__(
        self, shape: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
    ) -> None:
        flat = len(kernel) == 1
        self.shape = shape
        self.image = (shape[0], shape[1], 1, shape[2]) if flat else shape
        self.kernel = (1, *kernel) if flat else kernel
        self.stride = (1, *stride) if flat else stride
        self.padding = (0, *padding) if flat else padding

    def of(self, x: Tensor, fill: float) -> Tensor:
        """The entries of every window, (N, C, K, P)."""
        ph, pw = self.padding
        padded = F.pad(x.reshape(self.image), (pw, pw, ph, ph), value=fill)
        columns = F.unfold(padded, self.kernel, stride=self.stride)
        return columns.reshape(*self.image[:2], math.prod(self.kernel), columns.shape[-1])

    def back(self, shares: Tensor) -> Tensor:
        """Add (N, C, K, P) shares of the windows to the entries of x that they come from."""
        columns = shares.reshape(self.image[0], -1, shares.shape[-1])
        image = F.fold(columns, self.image[2:], self.kernel, padding=self.padding, stride=self.stride)
        return image.reshape(self.shape)

    def last(self, shares: Tensor) -> Tensor:
        """Like `back`, but a window that comes later overwrites."""
        positions = torch.arange(1, shares.shape[-1] + 1, dtype=shares.dtype).expand_as(shares)
        rank = torch.where(shares != 0, positions, torch.zeros_like(positions))
        place = torch.arange(1, 1 + math.prod(self.shape), dtype=shares.dtype).reshape(self.shape)
        source = self.of(place, 0.0).long()
        latest = torch.zeros(place.numel() + 1, dtype=shares.dtype)
        latest = latest.scatter_reduce(0, source.flatten(), rank.flatten(), "amax")
        wins = (rank == latest[source]) & (rank > 0)
        return self.back(torch.where(wins, shares, torch.zeros_like(shares)))
