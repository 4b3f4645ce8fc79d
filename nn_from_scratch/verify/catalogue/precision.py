"""float32 products on a GPU: in full, or in TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import torch

from nn_from_scratch.verify.catalogue.trials import TF32

__all__ = ["dtype_of", "rounding_of", "tensor_cores"]

# A factor in TF32 keeps 10 bits behind the leading one: neighbours are 2^-10 apart, relative to it.
_TF32_SPACING = 2.0**-10


def dtype_of(name: str) -> torch.dtype:
    """The dtype of a trial's tensors; those of TF32 are float32."""
    found: torch.dtype = torch.float32 if name == TF32 else getattr(torch, name)
    return found


def rounding_of(name: str) -> float:
    """The distance of neighbouring numbers, relative to them, in what the products of a trial are computed in."""
    return _TF32_SPACING if name == TF32 else float(torch.finfo(dtype_of(name)).eps)


@contextmanager
def tensor_cores(*, tf32: bool) -> Iterator[None]:
    """Within it float32 convolutions and products on a GPU are in TF32, or in full; torch's defaults are a mixture."""
    settings = import_module("torch.backends.cudnn").conv, torch.backends.cuda.matmul
    before = [place.fp32_precision for place in settings]
    try:
        for place in settings:
            place.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        for place, value in zip(settings, before, strict=True):
            place.fp32_precision = value
