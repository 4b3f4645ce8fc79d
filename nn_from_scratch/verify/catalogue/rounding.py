"""What rounding explains: the spacing of numbers, and how far rounding what it starts from moves a computation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TypeVar

import torch
from torch import Tensor

from nn_from_scratch.verify.catalogue.cases import TF32

Key = TypeVar("Key", bound=Hashable)

# A factor in TF32 keeps 10 bits behind the leading one: neighbors are 2^-10 apart, relative to it.
_TF32_SPACING = 2.0**-10


def dtype_of(name: str) -> torch.dtype:
    """The dtype of a trial's tensors; those of TF32 are float32."""
    found: torch.dtype = torch.float32 if name == TF32 else getattr(torch, name)
    return found


def rounding_of(name: str) -> float:
    """The distance of neighboring numbers, relative to them, in what the products of a trial are computed in."""
    return _TF32_SPACING if name == TF32 else float(torch.finfo(dtype_of(name)).eps)


def largest(tensor: Tensor) -> float:
    """The largest absolute value of a tensor's entries; 0 where it has none."""
    return float(tensor.detach().abs().max()) if tensor.numel() else 0.0


def perturbed(x: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """A float64 tensor with each entry moved by up to one rounding at eps, up or down."""
    return x * (1 + eps * (2 * torch.rand(x.shape, generator=generator, dtype=torch.float64) - 1))


def movements(
    passes: Callable[[float, int], Mapping[Key, Tensor]], exact: Mapping[Key, Tensor], eps: float, draws: int
) -> dict[Key, float]:
    """How far rounding moves each result of a computation in float64, in its largest entry.

    Args:
        passes: computes the results from what is rounded at a spacing, with the draws of a number.
        eps: the distance of neighboring numbers, relative to them.
        draws: how many times it is computed for each spacing.

    Returns:
        For each result the larger of two: how far rounding at eps moves it, and how far rounding in float64 does,
        scaled to eps; the latter sees what is lost inside.
    """
    moved = dict.fromkeys(exact, 0.0)
    for size in {eps, torch.finfo(torch.float64).eps}:
        for draw in range(draws):
            for key, tensor in passes(size, draw).items():
                if key in exact and tensor.is_floating_point():
                    moved[key] = max(moved[key], largest(tensor - exact[key]) * eps / size)
    return moved


@contextmanager
def tensor_cores(*, tf32: bool) -> Iterator[None]:
    """Context manager that computes float32 products on a GPU in TF32, or in full; torch's defaults are a mixture."""
    settings = import_module("torch.backends.cudnn").conv, torch.backends.cuda.matmul
    before = [place.fp32_precision for place in settings]
    try:
        for place in settings:
            place.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        for place, value in zip(settings, before, strict=True):
            place.fp32_precision = value
