"""The convolution layers: single cases, algorithms, misuse. `test_convolution_properties.py` has every geometry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.settings import CONVOLUTIONS
from nn_from_scratch.engine.convolutions import (
    ALGORITHMS,
    Geometry,
    convolution_algorithm,
    doubled,
    fastest,
    find_algorithm,
    native,
    swapped,
)
from nn_from_scratch.engine.convolutions.columns import PART_BYTES, correlate
from nn_from_scratch.engine.convolutions.doubled import few
from nn_from_scratch.engine.convolutions.swapped import MOST_PARTS, PART, TILE, correlate_swapped, suits
from nn_from_scratch.engine.layout import channels_last, copy_in_order, samples_last
from nn_from_scratch.errors import ArgumentError, GeometryError, ShapeError

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Geometry, torch.Tensor, torch.Tensor]:
    """A valid geometry with x (N, C, H, W) and w (C', C/G, K1, K2), remainders and empty batches included."""
    groups = draw(st.integers(1, 3))
    geometry = Geometry(
        kernel=draw(pairs),
        stride=draw(pairs),
        padding=draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        dilation=draw(pairs),
        groups=groups,
    )
    height, width = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    assume(height + 2 * geometry.padding[0] >= geometry.extent[0])
    assume(width + 2 * geometry.padding[1] >= geometry.extent[1])
    n, c, out = draw(st.integers(0, 3)), groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    x = torch.randn(n, c, height, width, dtype=torch.float64, generator=generator)
    w = torch.randn(out, c // groups, *geometry.kernel, dtype=torch.float64, generator=generator)
    return geometry, x, w


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
@given(problem=problems())
def test_the_maps_are_the_same_in_float32_and_in_either_layout(
    name: str, memory: torch.memory_format, problem: tuple[Geometry, torch.Tensor, torch.Tensor]
) -> None:
    geometry, x, w = problem
    maps, oracle, size = ALGORITHMS[name], ALGORITHMS["im2col"], (x.shape[2], x.shape[3])
    s = oracle.conv2d(x, w, geometry)
    g = torch.randn(s.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    single = [t.float().contiguous(memory_format=memory) for t in (x, w, g)]
    before = [t.clone() for t in single]
    found = (
        maps.conv2d(single[0], single[1], geometry),
        maps.conv2d_input(single[2], single[1], geometry, size),
        maps.conv2d_weight(single[0], single[2], geometry),
        *maps.conv2d_and_weight(single[0], single[1], single[2], geometry),
    )
    in_w = oracle.conv2d_weight(x, g, geometry)
    expected = (s, oracle.conv2d_input(g, w, geometry, size), in_w, s, in_w)
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference.float(), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(one, other) for one, other in zip(single, before, strict=True))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    ("n", "height", "width", "geometry"),
    [
        (PART + 9, 6, 7, Geometry((3, 2), stride=(2, 1), padding=(1, 0))),  # two parts
        (9, 5, 2 * TILE + 3, Geometry((2, 3), padding=(0, 2))),  # three tiles, with padding on either side
        (8, 4, 2 * TILE + 2, Geometry((1, 4), stride=(1, 2), padding=(0, 1))),  # one whole tile and a short one
        (2, TILE + 3, 2 * TILE + 3, Geometry((2, 3), padding=(0, 2))),  # more rows than a tile has columns
    ],
)
def test_the_kernels_gradient_in_parts_and_tiles(
    n: int, height: int, width: int, geometry: Geometry, memory: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, height, width, generator=generator).contiguous(memory_format=memory)
    g = torch.randn(n, 5, *geometry.output_size((height, width)), generator=generator).contiguous(memory_format=memory)
    assert suits(x, geometry)
    reference = ALGORITHMS["im2col"].conv2d_weight(x.double(), g.double(), geometry)
    torch.testing.assert_close(correlate_swapped(x, g, geometry), reference.float(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("n", "part"), [(2 * PART + 2, PART), (MOST_PARTS * PART, PART), (MOST_PARTS * PART + 1, PART + 1)]
)
def test_the_kernels_gradient_in_as_many_samples_at_once(n: int, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def noted(x: Tensor, size: int) -> Iterator[Tensor]:
        asked.append(size)
        return samples_last(x, size)

    monkeypatch.setattr(swapped, "samples_last", noted)
    x, g, geometry = torch.ones(n, 1, 2, 3), torch.ones(n, 2, 1, 2), Geometry((2, 2))
    torch.testing.assert_close(correlate_swapped(x, g, geometry), torch.full((2, 1, 2, 2), 2.0 * n))
    assert asked == [part, part]


def test_the_kernels_gradient_of_tensors_that_are_dense_in_no_layout() -> None:
    geometry, generator = Geometry((2, 3), stride=(2, 1), padding=(1, 0)), torch.Generator().manual_seed(0)
    x, g = (
        torch.randn(9, 3, 6, 14, generator=generator)[..., ::2],
        torch.randn(9, 5, 8, 5, generator=generator)[:, :, ::2],
    )
    reference = ALGORITHMS["im2col"].conv2d_weight(x.double(), g.double(), geometry)
    torch.testing.assert_close(correlate_swapped(x, g, geometry), reference.float(), rtol=1e-4, atol=1e-4)


def test_what_no_vendors_kernel_suits_is_left_to_the_columns() -> None:
    x, plain = torch.ones(1, 4, 3, 3), Geometry((2, 2))
    assert suits(x, plain)
    assert not suits(x.double(), plain) and not suits(x[:0], plain)
    assert not suits(x, Geometry((1, 1))) and not suits(x, Geometry((2, 2), groups=2))
    assert not suits(x, Geometry((2, 2), dilation=(1, 2)))


def _watched(function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    def watched(*arguments: Any) -> Any:
        calls.append(function.__name__)
        return function(*arguments)

    return watched


@pytest.mark.parametrize(
    ("channels", "out", "geometry", "alone", "beside"),
    [
        (3, 16, Geometry((4, 4), stride=(2, 2)), False, True),  # four copies of a pixel in short columns
        (8, 16, Geometry((4, 4), stride=(2, 2)), False, True),
        (9, 16, Geometry((4, 4), stride=(2, 2)), True, True),
        (3, 43, Geometry((4, 4), stride=(2, 2)), True, True),
        (16, 32, Geometry((4, 4), stride=(2, 1)), False, False),  # eight
        (16, 32, Geometry((4, 2), stride=(2, 1)), True, True),
        (16, 32, Geometry((3, 3)), False, False),  # nine
    ],
)
def test_columns_are_taken_where_they_hold_a_pixel_few_times(
    channels: int, out: int, geometry: Geometry, alone: bool, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    for name in ("correlate", "convolve_and_correlate"):
        monkeypatch.setattr(native, name, _watched(getattr(native, name), taken))
    x, w = torch.ones(2, channels, 6, 6), torch.ones(out, channels, *geometry.kernel)
    g = native.conv2d(x, w, geometry)
    native.conv2d_weight(x, g, geometry)
    assert taken == ["correlate"] * alone
    taken.clear()
    native.conv2d_and_weight(x, w, g, geometry)
    assert taken == ["convolve_and_correlate"] * beside
    taken.clear()
    native.conv2d_and_weight(x.double(), w.double(), g.double(), geometry)  # no vendor's kernel to compare with
    assert taken == ["correlate"]


def test_columns_are_taken_where_they_are_those_of_two_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    monkeypatch.setattr(native, "correlate", _watched(correlate, taken))
    geometry = Geometry((4, 4), stride=(2, 2))
    x, g = torch.ones(2, 3, 6, 6), torch.ones(2, 8, 2, 2)
    before = native.conv2d_weight(x, g, geometry)
    assert not taken
    monkeypatch.setattr(doubled, "MANY", 8)
    torch.testing.assert_close(native.conv2d_weight(x, g, geometry), before)
    assert taken == ["correlate"]
    taken.clear()
    native.conv2d_weight(x, torch.ones(2, few() + 1, 2, 2), geometry)  # more channels out than it is worth
    assert not taken


@pytest.mark.parametrize(("make", "shape"), [(nn.Conv2d, (2, 3, 6, 6)), (nn.TransposeConv2d, (2, 3, 3, 3))])
def test_the_gradient_of_an_input_that_nobody_wants_is_not_computed(
    make: type[nn.Conv2d | nn.TransposeConv2d], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(3, 4, 4, stride=2)
    for name in ("input_vjp", "vjps"):
        monkeypatch.setattr(make, name, lambda *a: pytest.fail("asked for"))
    loss = nn.MSE()
    y = first(torch.ones(shape))
    loss(y, torch.zeros_like(y))
    loss.backward()
    assert first.weight.grad is not None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("output_padding", [0, 1, 2])
def test_both_gradients_of_a_transposed_convolution_at_once_are_those_one_by_one(
    output_padding: int, algorithm: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.TransposeConv2d(
        4,
        3,
        3,
        stride=2,
        padding=1,
        dilation=3 if output_padding == 2 else 1,  # output padding beyond the stride
        output_padding=output_padding,
        generator=generator,
        algorithm=algorithm,
    )
    y = layer(torch.randn(2, 4, 5, 6, generator=generator))
    (record,) = layer._records.values()
    g = torch.randn(y.shape, generator=generator)
    x, parameters = layer.vjps(g, record)
    torch.testing.assert_close(x, layer.input_vjp(g, record))
    torch.testing.assert_close(parameters, layer.parameter_vjps(g, record))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (9, 11, 2, 3), (16, 8, 1, 1), (0, 9, 2, 2), (20, 1, 7, 3)])
def test_layouts_change_where_entries_lie_and_nothing_else(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    last = channels_last(x)
    assert torch.equal(last, x) and last.is_contiguous(memory_format=torch.channels_last)
    assert channels_last(last) is last
    assert torch.equal(channels_last(x[:, :, ::2]), x[:, :, ::2])
    if len(x) > 0:
        entries = x[0].numel()
        offset = torch.cat([x, x])[len(x) :]  # not from the beginning of its memory
        for most in (4, 8, 9, 64):
            whole = torch.cat([*samples_last(x, most)], dim=1)
            assert torch.equal(whole, x.reshape(len(x), entries).mT)
            assert torch.equal(torch.cat([*samples_last(offset, most)], dim=1), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("start", [0, 1, 2])
@pytest.mark.parametrize("channels", [2, 3])
def test_entries_in_order_are_those_of_the_view(channels: int, start: int, first: int, dtype: torch.dtype) -> None:
    x = torch.randn(first + 96 * channels, dtype=dtype, generator=torch.Generator().manual_seed(0))
    x[first] = torch.nan
    dense = x[first:]
    size, stride = (2, 3, 2, 2, 2, channels), (48 * channels, 8 * channels, 2 * channels, 4 * channels, channels, 1)
    found = torch.zeros(start + 48 * channels + 1, dtype=dtype)
    copy_in_order(dense, size, stride, out=found[start:-1])
    expected = dense.as_strided(size, stride).flatten()
    torch.testing.assert_close(found[start:-1], expected, rtol=0.0, atol=0.0, equal_nan=True)
    assert not found[:start].any() and found[-1] == 0


def test_output_padding_makes_a_size_possible_that_would_be_empty_without_it() -> None:
    layer = nn.TransposeConv2d(1, 2, 1, stride=3, padding=1, output_padding=2, dtype=torch.float64)
    x = torch.randn(1, 1, 1, 1, dtype=torch.float64)
    reference = F.conv_transpose2d(x, layer.weight, layer.bias, stride=3, padding=1, output_padding=2)
    torch.testing.assert_close(layer(x), reference, rtol=1e-13, atol=1e-14)


def test_output_padding_between_stride_and_dilation_holds_the_bias() -> None:
    layer = nn.TransposeConv2d(1, 2, 2, dilation=3, output_padding=2, dtype=torch.float64)
    x = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    reference = F.conv_transpose2d(x, layer.weight, layer.bias, dilation=3, output_padding=2)
    torch.testing.assert_close(layer(x), reference, rtol=1e-13, atol=1e-14)


def test_output_padding_between_stride_and_dilation_first_undoes_the_padding() -> None:
    layer = nn.TransposeConv2d(1, 2, 1, dilation=3, padding=1, output_padding=2, dtype=torch.float64)
    for size in (1, 3):
        x = torch.randn(1, 1, size, size, dtype=torch.float64)
        reference = F.conv_transpose2d(x, layer.weight, layer.bias, dilation=3, padding=1, output_padding=2)
        torch.testing.assert_close(layer(x), reference, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 0), "kernel_size is 0, but an integer of at least 1, or a pair of them, is expected"),
        (
            lambda: nn.Conv2d(3, 4, (2, 2, 2)),  # type: ignore[arg-type]  # on purpose
            r"kernel_size is \(2, 2, 2\)",
        ),
        (lambda: nn.Conv2d(3, 4, 2, stride=0), "stride is 0, but an integer of at least 1"),
        (lambda: nn.Conv2d(3, 4, 2, padding=-1), "padding is -1, but an integer of at least 0"),
        (lambda: nn.Conv2d(3, 4, 2, dilation=(1, 0)), r"dilation is \(1, 0\), but an integer of at least 1"),
        (lambda: nn.Conv2d(3, 4, 2, groups=2), "groups is 2, but in_channels = 3 is not divisible by it"),
        (lambda: nn.Conv2d(4, 3, 2, groups=2), "groups is 2, but out_channels = 3 is not divisible by it"),
        (lambda: nn.TransposeConv2d(3, 4, 2, stride=2, output_padding=2), "output_padding is 2, but it must be less"),
        (lambda: nn.Conv2d(1, 1, 4)(torch.ones(1, 1, 3, 3)), r"input of size \(3, 3\) .* is smaller than the kernel"),
        (
            lambda: nn.TransposeConv2d(1, 1, 2, padding=2)(torch.ones(1, 1, 2, 2)),
            r"input of size \(2, 2\) would give an output of size \(-1, -1\)",
        ),
    ],
)
def test_geometries_that_are_not_possible_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(GeometryError, match=message):
        make()


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(ArgumentError, match="algorithm is 'fft', but the known ones are "):
        nn.Conv2d(1, 1, 1, algorithm="fft")


def test_auto_is_the_vendors_algorithm_where_the_vendor_has_kernels() -> None:
    assert fastest("cpu", torch.float32) == fastest("cuda", torch.float64) == "native"
    assert fastest("cpu", torch.float64) == "unfold"


def test_the_context_chooses_for_layers_that_leave_it_open() -> None:
    x = torch.ones(1)
    with convolution_algorithm("unfold"):
        assert find_algorithm("auto", x) is ALGORITHMS["unfold"]
        assert find_algorithm("native", x) is ALGORITHMS["native"]
        with convolution_algorithm("auto"):
            assert find_algorithm("auto", x) is ALGORITHMS["native"]
    assert find_algorithm("auto", x) is ALGORITHMS["native"]
    with pytest.raises(ArgumentError, match="algorithm is 'fft', but the known ones are auto, im2col, native, unfold"):
        convolution_algorithm("fft").__enter__()


def test_the_algorithm_is_shown_where_it_was_chosen() -> None:
    assert repr(nn.Conv2d(1, 1, 1)) == "Conv2d(1, 1, 1)"
    assert repr(nn.Conv2d(1, 1, 1, algorithm="unfold")) == "Conv2d(1, 1, 1, algorithm='unfold')"


def test_the_settings_of_a_run_know_every_algorithm() -> None:
    assert sorted(["auto", *ALGORITHMS]) == list(CONVOLUTIONS)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_same_step_gives_the_same_bits(name: str) -> None:
    x = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = report_model(generator=torch.Generator().manual_seed(1))
    gradients = []
    for _ in range(2):
        with convolution_algorithm(name):
            nn.backward(model(x), x)
        gradients.append([parameter.grad for parameter in model.parameters().values()])
        nn.SGD(model, lr=0.1).zero_grad()
    for first, second in zip(*gradients, strict=True):
        assert first is not None and second is not None and torch.equal(first, second)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_batch_in_many_parts_is_the_sum_of_its_samples(name: str, groups: int) -> None:
    geometry, maps = Geometry(kernel=(3, 3), padding=(1, 1), groups=groups), ALGORITHMS[name]
    x, g = torch.randn(2, 20, 4, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert 9 * x.nbytes > 4 * PART_BYTES
    alone = sum(maps.conv2d_weight(a[None], b[None], geometry) for a, b in zip(x, g, strict=True))
    torch.testing.assert_close(maps.conv2d_weight(x, g, geometry), alone, rtol=1e-12, atol=1e-12)


def test_inputs_of_the_wrong_shape_are_refused() -> None:
    layer = nn.Conv2d(3, 4, 2)
    with pytest.raises(ShapeError, match=r"has shape \(1, 2, 5, 5\) with 2 channels, but 3 are expected"):
        layer(torch.ones(1, 2, 5, 5))
    with pytest.raises(ShapeError, match=r"with 3 dimensions, but 4 are expected: \(N, C, H, W\)"):
        layer(torch.ones(3, 5, 5))
