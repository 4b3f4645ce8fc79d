"""A convolution is three maps of one bilinear form, and an algorithm is those three functions.

For a fixed geometry `<conv2d(x, w), g>` is linear in x, in w and in g, so there are exactly three maps:
`conv2d(x, w)`, its adjoint `conv2d_input(g, w)` in x, and its adjoint `conv2d_weight(x, g)` in w. `Conv2d` and
`TransposeConv2d` are made of the same three in other roles. A further algorithm is one file and one line here.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from nn_from_scratch.convolutions import unfold
from nn_from_scratch.convolutions.geometry import Geometry, Pair, pair, spatial
from nn_from_scratch.errors import ArgumentError

__all__ = ["ALGORITHMS", "Algorithm", "Geometry", "Pair", "find_algorithm", "pair", "spatial"]


class Algorithm(Protocol):
    """One way to compute the three maps; x is (N, C, H, W), w is (C', C/G, K1, K2), g is (N, C', H', W')."""

    def conv2d(self, x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
        """The convolution: (N, C', H', W')."""

    def conv2d_input(self, g: Tensor, w: Tensor, geometry: Geometry, size: Pair) -> Tensor:
        """The adjoint in x, for an input of this size: (N, C, *size)."""

    def conv2d_weight(self, x: Tensor, g: Tensor, geometry: Geometry) -> Tensor:
        """The adjoint in w: (C', C/G, K1, K2)."""


ALGORITHMS: dict[str, Algorithm] = {"unfold": unfold}


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of this name.

    Raises:
        ArgumentError: there is none.
    """
    if name not in ALGORITHMS:
        raise ArgumentError(f"algorithm is {name!r}, but the known ones are {', '.join(sorted(ALGORITHMS))}")
    return ALGORITHMS[name]
