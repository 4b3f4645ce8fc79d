"""Which algorithm computes a convolution: the layer's own, else that of the context, else the fastest one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from nn_from_scratch.engine.convolutions import native, unfold
from nn_from_scratch.engine.convolutions.geometry import Geometry, Pair
from nn_from_scratch.errors import ArgumentError

#: The name that leaves the choice to the context, and without one to `fastest`.
AUTO = "auto"

# What oneDNN, the vendor's library on a CPU, has kernels for.
_VENDOR_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})

_context: ContextVar[str] = ContextVar("convolution_algorithm", default=AUTO)


class Algorithm(Protocol):
    """One way to compute the three maps; x is (N, C, H, W), w is (C', C/G, K1, K2), g is (N, C', H', W').

    Each map returns a new tensor, which may lie in memory with the channels last.
    """

    def conv2d(self, x: Tensor, w: Tensor, geometry: Geometry, size: Pair, bias: Tensor | None = None) -> Tensor:
        """The convolution with so many positions, plus a bias (C',): (N, C', *size)."""

    def conv2d_input(self, g: Tensor, w: Tensor, geometry: Geometry, size: Pair, bias: Tensor | None = None) -> Tensor:
        """The adjoint in x, for an input of this size, plus a bias (C,): (N, C, *size)."""

    def conv2d_weight(self, x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
        """The adjoint in w: (C', C/G, K1, K2)."""


ALGORITHMS: dict[str, Algorithm] = {"native": native, "unfold": unfold}


def check_algorithm(name: str) -> str:
    """The name, if it is "auto" or that of an algorithm.

    Raises:
        ArgumentError: it is neither.
    """
    if not isinstance(name, str) or (name != AUTO and name not in ALGORITHMS):
        raise ArgumentError(f"algorithm is {name!r}, but the known ones are {', '.join(sorted([AUTO, *ALGORITHMS]))}")
    return name


def find_algorithm(name: str, x: Tensor) -> Algorithm:
    """The algorithm of this name for tensors of x's dtype and device.

    Raises:
        ArgumentError: no algorithm has this name.
    """
    if name == AUTO:
        name = _context.get()
    if name == AUTO:
        name = fastest(x.device.type, x.dtype)
    found = ALGORITHMS.get(name)
    return ALGORITHMS[check_algorithm(name)] if found is None else found


def surrounding_algorithm() -> str:
    """What "auto" means here: the name given to the innermost `convolution_algorithm`, or "auto" without one."""
    return _context.get()


@cache
def fastest(device: str, dtype: torch.dtype) -> str:
    """The name of the fastest algorithm on this type of device in this dtype; this is what "auto" means.

    The vendor's kernels, wherever the vendor has them: on CUDA always, on a CPU in the dtypes of oneDNN. For others,
    float64 above all, PyTorch has a loop over the samples, each unfolded by itself.
    """
    if device != "cpu":
        return "native"
    vendor = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch leaves it so
    return "native" if vendor and dtype in _VENDOR_DTYPES else "unfold"


@contextmanager
def convolution_algorithm(name: str) -> Iterator[None]:
    """Context manager in which layers whose own algorithm is "auto" use the one of this name, forward and backward.

    Args:
        name: "native", "unfold", or "auto" for the fastest.

    Raises:
        ArgumentError: no algorithm has this name.
    """
    token = _context.set(check_algorithm(name))
    try:
        yield
    finally:
        _context.reset(token)
