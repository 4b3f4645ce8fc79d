"""The adjoint by phases: what it asks of the convolution that it is given, in whatever layout that answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nn_from_scratch.convolutions import ALGORITHMS, Geometry, Pair
from nn_from_scratch.convolutions.phases import adjoint_by_phases

SIZE = (13, 10)
GEOMETRIES = [
    Geometry((4, 4), stride=(2, 2), padding=(1, 1)),
    Geometry((3, 5), stride=(2, 3), padding=(0, 2)),
    Geometry((6, 3), stride=(3, 1), padding=(1, 1)),
    Geometry((2, 3), stride=(1, 1), padding=(1, 0), dilation=(2, 3)),
    Geometry((3, 2), stride=(2, 1), dilation=(2, 3)),
    Geometry((3, 2), stride=(1, 2), dilation=(1, 3)),
    Geometry((4, 2), stride=(4, 2), groups=2),
    Geometry((12, 2), stride=(2, 5), padding=(0, 0)),  # two positions in all
]


class Plain:
    """A convolution whose result lies with its columns last, and what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[Geometry] = []

    def __call__(self, x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None) -> Tensor:
        self.asked.append(geometry)
        y = torch.conv2d(x.contiguous(), w.contiguous(), bias, 1, geometry.padding, geometry.dilation, geometry.groups)
        return y.contiguous()


def adjoint(geometry: Geometry, convolve: Plain, *, dtype: torch.dtype = torch.float32, size: Pair = SIZE) -> None:
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(2, 4, *geometry.output_size(size), dtype=dtype, generator=generator)
    w = torch.randn(4, 6 // geometry.groups, *geometry.kernel, dtype=dtype, generator=generator)
    found = adjoint_by_phases(convolve, g, w, geometry, size, None)
    expected = ALGORITHMS["im2col"].conv2d_input(g, w, geometry, size)
    torch.testing.assert_close(found, expected)
    H, W = size
    (s, t), (p, q) = geometry.stride, geometry.padding
    rows, columns = -(-(p + H) // s) * s, -(-(q + W) // t) * t  # whole phases, from the first padded row and column
    assert found.untyped_storage().nbytes() <= 2 * 6 * rows * columns * g.element_size()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_convolution_may_answer_in_any_layout(geometry: Geometry, dtype: torch.dtype) -> None:
    adjoint(geometry, Plain(), dtype=dtype)


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (1, 1), (1, 4)])
def test_the_convolution_may_answer_with_few_positions(size: Pair) -> None:
    adjoint(Geometry((1, 1), stride=(2, 2)), Plain(), size=size)
    adjoint(Geometry((1, 1), stride=(1, 2)), Plain(), size=size)
    adjoint(Geometry((1, 1), stride=(2, 1)), Plain(), size=size)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_phase_has_as_many_entries_as_its_share_of_the_kernel(geometry: Geometry) -> None:
    convolve = Plain()
    adjoint(geometry, convolve)
    (asked,) = convolve.asked
    for axis in (0, 1):
        K, s, d = geometry.kernel[axis], geometry.stride[axis], geometry.dilation[axis]
        # Only where there is a stride too are the zeros of a dilation written out.
        expected = (K, d) if s == 1 else (-(-geometry.extent[axis] // s), 1)
        assert (asked.kernel[axis], asked.dilation[axis]) == expected
    assert asked.stride == (1, 1)
