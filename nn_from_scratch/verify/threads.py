"""How many threads torch computes with while something is verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["threads_for"]

#: Fewer numbers than this in all inputs together are computed with in one thread.
_SMALL = 100_000


@contextmanager
def threads_for(inputs: Sequence[object]) -> Iterator[None]:
    """Within it, torch computes in one thread where the inputs are small.

    A verification is thousands of passes over small tensors. Where other programs keep the processors busy, each pass
    would wait for the slowest of torch's threads: 25 s instead of 0.7 s has been seen.

    Args:
        inputs: Of the subject; what is no tensor and no array does not count.
    """
    sizes = (
        x.numel() if isinstance(x, torch.Tensor) else x.size for x in inputs if isinstance(x, torch.Tensor | np.ndarray)
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if sum(sizes) < _SMALL else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
