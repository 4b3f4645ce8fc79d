from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from nn_from_scratch.denoise.data import PairSet


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # The tensors here are tiny: more threads only wait for each other, above all where tests run side by side.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def images() -> Callable[..., Tensor]:
    """Makes random images, uint8 (N, 3, H, W)."""

    def make(*shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    return make


@pytest.fixture
def tiny_pairs(images: Callable[..., Tensor]) -> PairSet:
    """20 training pairs and 4 validation images of 8x8 pixels."""
    return PairSet(
        images(20, 3, 8, 8),
        images(20, 3, 8, 8, seed=1),
        images(4, 3, 8, 8, seed=2),
        images(4, 3, 8, 8, seed=3),
        source="random",
        noise="none",
    )
