"""The convolution layers: single cases, algorithms, misuse. `test_convolution_properties.py` has every geometry."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

import nn_from_scratch as nn
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.settings import CONVOLUTIONS
from nn_from_scratch.engine.convolutions import ALGORITHMS, Geometry, convolution_algorithm, fastest, find_algorithm
from nn_from_scratch.errors import ArgumentError, GeometryError, ShapeError
from tests.functions import draw

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
    maps, oracle, size = ALGORITHMS[name], ALGORITHMS["unfold"], (x.shape[2], x.shape[3])
    positions = geometry.output_size(size)
    s = oracle.conv2d(x, w, geometry, positions)
    g = draw(*s.shape, seed=1)
    single = [t.float().contiguous(memory_format=memory) for t in (x, w, g)]
    before = [t.clone() for t in single]
    found = (
        maps.conv2d(single[0], single[1], geometry, positions),
        maps.conv2d_input(single[2], single[1], geometry, size),
        maps.conv2d_weight(single[0], single[2], geometry),
    )
    expected = (s, oracle.conv2d_input(g, w, geometry, size), oracle.conv2d_weight(x, g, geometry))
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference.float(), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(one, other) for one, other in zip(single, before, strict=True))


@pytest.mark.parametrize(("make", "shape"), [(nn.Conv2d, (2, 3, 6, 6)), (nn.TransposeConv2d, (2, 3, 3, 3))])
def test_the_gradient_of_an_input_that_nobody_wants_is_not_computed(
    make: type[nn.Conv2d | nn.TransposeConv2d], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(3, 4, 4, stride=2)
    monkeypatch.setattr(make, "input_vjp", lambda *a: pytest.fail("asked for"))
    loss = nn.MSE()
    y = first(torch.ones(shape))
    loss(y, torch.zeros_like(y))
    loss.backward()
    assert first.weight.grad is not None


@pytest.mark.parametrize(
    ("kernel", "options", "sizes"),
    [
        (1, {"stride": 3, "padding": 1}, [1]),
        (2, {"dilation": 3}, [3]),
        (1, {"dilation": 3, "padding": 1}, [1, 3]),
    ],
    ids=["size that would be empty", "bias alone between stride and dilation", "padding undone first"],
)
def test_output_padding_is_torchs(kernel: int, options: dict[str, int], sizes: list[int]) -> None:
    layer = nn.TransposeConv2d(1, 2, kernel, output_padding=2, dtype=torch.float64, **options)  # type: ignore[arg-type]
    for size in sizes:
        x = torch.randn(1, 1, size, size, dtype=torch.float64)
        reference = F.conv_transpose2d(x, layer.weight, layer.bias, output_padding=2, **options)
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
    with pytest.raises(ArgumentError, match="algorithm is 'fft', but the known ones are auto, native, unfold"):
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
def test_the_kernels_gradient_is_the_sum_of_the_samples(name: str, groups: int) -> None:
    geometry, maps = Geometry(kernel=(3, 3), padding=(1, 1), groups=groups), ALGORITHMS[name]
    x, g = draw(2, 20, 4, 32, 32)
    alone = sum(maps.conv2d_weight(a[None], b[None], geometry) for a, b in zip(x, g, strict=True))
    torch.testing.assert_close(maps.conv2d_weight(x, g, geometry), alone, rtol=1e-12, atol=1e-12)


def test_inputs_of_the_wrong_shape_are_refused() -> None:
    layer = nn.Conv2d(3, 4, 2)
    with pytest.raises(ShapeError, match=r"has shape \(1, 2, 5, 5\) with 2 channels, but 3 are expected"):
        layer(torch.ones(1, 2, 5, 5))
    with pytest.raises(ShapeError, match=r"with 3 dimensions, but 4 are expected: \(N, C, H, W\)"):
        layer(torch.ones(3, 5, 5))
