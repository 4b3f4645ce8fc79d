"""A short name for the exact content of a data set."""

from __future__ import annotations

import hashlib

from nn_from_scratch.denoise.data.pairs import PairSet

__all__ = ["fingerprint"]


def fingerprint(pairs: PairSet) -> str:
    """SHA-256 (hexadecimal) of all pixels: equal for equal data only."""
    sha = hashlib.sha256()
    for tensor in (pairs.train_noisy_a, pairs.train_noisy_b, pairs.validation_noisy, pairs.validation_clean):
        sha.update(repr(tuple(tensor.shape)).encode())
        sha.update(tensor.contiguous().numpy().data)
    return sha.hexdigest()
