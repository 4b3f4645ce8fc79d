"""Independent streams of random numbers, one for each purpose, all decided by one seed."""

from __future__ import annotations

import hashlib

import torch

from nn_from_scratch.errors import ArgumentError

__all__ = ["check_seed", "stream"]


def check_seed(seed: int) -> None:
    """Raise ArgumentError if a seed is not a whole number of at least 0."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ArgumentError(f"seed is {seed!r}; it must be a whole number of at least 0")


def stream(seed: int, *purpose: str | int) -> torch.Generator:
    """Give the generator of one purpose; those of different purposes are independent of one another."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
