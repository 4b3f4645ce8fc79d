"""A convolution is three maps of one bilinear form, and an algorithm is those three functions, and two of them at once.

For a fixed geometry `<conv2d(x, w), g>` is linear in x, in w and in g, so there are exactly three maps:
`conv2d(x, w)`, its adjoint `conv2d_input(g, w)` in x, and its adjoint `conv2d_weight(x, g)` in w. `Conv2d` and
`TransposeConv2d` are made of the same three in other roles. `conv2d_and_weight` is the first and the last for the same
x, the two gradients of a transposed convolution, for algorithms in which they share work. A further algorithm is one
file and one line in `selection.py`, where the choice among them is made too.
"""

import torch

from nn_from_scratch.engine.convolutions.geometry import Geometry, Pair, pair, spatial
from nn_from_scratch.engine.convolutions.selection import (
    ALGORITHMS,
    Algorithm,
    check_algorithm,
    convolution_algorithm,
    fastest,
    find_algorithm,
    surrounding_algorithm,
)

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Geometry",
    "Pair",
    "check_algorithm",
    "convolution_algorithm",
    "fastest",
    "find_algorithm",
    "pair",
    "spatial",
    "surrounding_algorithm",
]

# A batch is computed in parts, for which memory is asked for and given back. Freshly mapped pages cost more than what
# is computed in them, and the C library of Linux returns freed memory to the system as soon as it is more than twice
# the largest mapped block that was ever freed. To free a block just below its limit of 32 MiB, never touched and so
# never really there, raises that mark.
torch.empty(31 << 20, dtype=torch.uint8, device="cpu")
