"""The adjoint by phases: what it asks of the convolution that it is given, in whatever layout that answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nn_from_scratch.engine.convolutions import ALGORITHMS, Geometry, Pair, native
from nn_from_scratch.engine.convolutions.phases import _phase_order, adjoint_by_phases
from nn_from_scratch.engine.convolutions.shifted import convolve_full

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


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_channels_come_in_blocks_where_that_is_asked_for(geometry: Geometry, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(2, 4, *geometry.output_size(SIZE), generator=generator)
    w = torch.randn(4, 6 // geometry.groups, *geometry.kernel, generator=generator)
    b = torch.randn(6, generator=generator) if bias else None
    widths = []

    def convolve(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None) -> Tensor:
        widths.append(len(w))
        return Plain()(x, w, geometry, bias)

    found = adjoint_by_phases(convolve, g, w, geometry, SIZE, b, block=16)
    torch.testing.assert_close(found, ALGORITHMS["im2col"].conv2d_input(g, w, geometry, SIZE, b))
    phases = 6 * geometry.stride[0] * geometry.stride[1]
    blocks = geometry.groups == 1 and geometry.stride != (1, 1)
    assert widths == [-(-phases // 16) * 16 if blocks else phases]


@pytest.mark.parametrize("block", [1, 2, 8])
@pytest.mark.parametrize("channels", [3, 8], ids=["narrow", "wide"])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("samples", [0, 1, 2, 3, 4])
def test_native_on_either_kind_of_processor(
    samples: int, padding: int, bias: bool, channels: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_block", lambda device, dtype: block)
    products: list[int] = []

    def counted(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        products.append(len(w))
        return convolve_full(x, w, bias)

    monkeypatch.setattr(native, "convolve_full", counted)
    geometry, size = Geometry((4, 4), stride=(2, 2), padding=(padding, padding)), (10, 8)
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(samples, 5, *geometry.output_size(size), generator=generator)
    w = torch.randn(5, channels, 4, 4, generator=generator)
    b = torch.randn(channels, generator=generator) if bias else None
    found = native.conv2d_input(g, w, geometry, size, b)
    torch.testing.assert_close(found, ALGORITHMS["im2col"].conv2d_input(g, w, geometry, size, b))
    # Products where the channels are many and the phases' padding is full; what padding 2 cuts off needs none.
    parts = min(samples, native.PARTS)
    assert products == ([32] * parts if block > 1 and channels == 8 and padding < 2 else [])


@pytest.mark.parametrize(
    ("stride", "kernel", "padded"),
    [
        ((2, 2), (4, 4), (1, 1)),
        ((2, 2), (4, 2), (1, 0)),
        ((2, 2), (2, 4), (0, 1)),
        ((2, 2), (2, 2), (0, 0)),
        ((2, 1), (4, 1), (1, 0)),
        ((1, 2), (1, 4), (0, 1)),
        ((1, 1), (3, 2), None),
    ],
)
def test_native_pads_a_cotangent_beforehand(
    stride: Pair, kernel: Pair, padded: Pair | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On AVX2, where there are several phases; without padding nothing is copied."""
    asked: list[tuple[Tensor, Geometry]] = []
    convolve = native._convolve

    def noted(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None) -> Tensor:
        asked.append((x, geometry))
        return convolve(x, w, geometry, bias)

    def block(device: str, dtype: torch.dtype) -> int:
        assert (device, dtype) == ("cpu", torch.float32)
        return 8

    monkeypatch.setattr(native, "_convolve", noted)
    monkeypatch.setattr(native, "_block", block)
    geometry, size = Geometry(kernel, stride=stride), (12, 8)
    g, w = torch.randn(1, 5, *geometry.output_size(size)), torch.randn(5, 3, *kernel)
    found = native.conv2d_input(g, w, geometry, size)
    torch.testing.assert_close(found, ALGORITHMS["im2col"].conv2d_input(g, w, geometry, size))
    ((x, flat),) = asked
    if padded is None:
        assert x is g and flat.padding == (2, 1)  # stride 1: as the vendor's kernel likes it
    else:
        assert flat.padding == (0, 0)
        assert x.shape[2:] == (g.shape[2] + 2 * padded[0], g.shape[3] + 2 * padded[1])
        assert (x.data_ptr() == g.data_ptr()) == (padded == (0, 0))  # not copied


def test_the_order_of_phases_is_as_long_as_they_are() -> None:
    order = _phase_order((4, 3, 4, 2), 1, (2, 1), 100, torch.device("cpu"))
    assert sorted(order[:96].tolist()) == list(range(96)) and order[96:].tolist() == [0] * 4


@pytest.mark.parametrize(("capability", "block"), [("AVX2", 8), ("AVX512", 1), ("DEFAULT", 1)])
def test_native_asks_the_processor(capability: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    native._block.cache_clear()
    try:
        assert native._block("cpu", torch.float32) == block
        assert native._block("cpu", torch.bfloat16) == native._block("cuda", torch.float32) == 1
    finally:
        native._block.cache_clear()
