"""A convolution is three maps of one bilinear form, and an algorithm is those three functions and nothing else.

For a fixed geometry `<conv2d(x, w), g>` is linear in x, in w and in g, so there are exactly three maps:
`conv2d(x, w)`, its adjoint `conv2d_input(g, w)` in x, and its adjoint `conv2d_weight(x, g)` in w. `Conv2d` and
`TransposeConv2d` are made of the same three in other roles. A further algorithm is one file and one line in
`selection.py`, where the choice among them is made too.
"""

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
