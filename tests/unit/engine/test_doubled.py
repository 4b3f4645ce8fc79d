"""Two positions at once: the same results as one by one, and when that is done."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nn_from_scratch.engine.convolutions import ALGORITHMS, Geometry, columns, doubled
from nn_from_scratch.engine.convolutions.columns import convolve, convolve_and_correlate, correlate
from nn_from_scratch.engine.convolutions.doubled import (
    doubled_geometry,
    doubled_kernels,
    few,
    single_kernels,
    worth_doubling,
)

WORTH = Geometry((4, 4), stride=(2, 2), padding=(1, 1))


@pytest.fixture(autouse=True)
def _even_where_there_are_few_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubled, "MANY", 1)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    ("channels", "size", "geometry"),
    [
        (3, (8, 8), WORTH),
        (3, (8, 9), WORTH),  # a column that no position reaches
        (1, (7, 10), Geometry((3, 5), stride=(2, 1), padding=(0, 2))),
        (2, (6, 14), Geometry((2, 5), stride=(1, 3), padding=(1, 1), dilation=(2, 1))),
        (1, (5, 5), Geometry((3, 3), stride=(1, 2), padding=(1, 0))),  # two positions in all
    ],
    ids=str,
)
def test_the_results_are_those_of_the_oracle(
    channels: int, size: tuple[int, int], geometry: Geometry, memory: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    positions = geometry.output_size(size)
    x = torch.randn(5, channels, *size, dtype=torch.float64, generator=generator).contiguous(memory_format=memory)
    w = torch.randn(7, channels, *geometry.kernel, dtype=torch.float64, generator=generator)
    b = torch.randn(7, dtype=torch.float64, generator=generator)
    g = torch.randn(5, 7, *positions, dtype=torch.float64, generator=generator).contiguous(memory_format=memory)
    assert worth_doubling(x, geometry, positions, 7)
    oracle = ALGORITHMS["im2col"]
    s, in_w = oracle.conv2d(x, w, geometry), oracle.conv2d_weight(x, g, geometry)
    torch.testing.assert_close(convolve(x, w, geometry, b), s + b[:, None, None])
    torch.testing.assert_close(convolve(x, w, geometry, None), s)
    torch.testing.assert_close(correlate(x, g, geometry), in_w)
    both = convolve_and_correlate(x, w, g, geometry)
    torch.testing.assert_close(both, (s, in_w))


def test_columns_are_those_of_two_positions_by_the_channels_out(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    class Watched(columns._Columns):
        def of(self, image: Tensor) -> Tensor:
            shapes.append(self.shape)
            return super().of(image)

    monkeypatch.setattr(columns, "_Columns", Watched)
    x = torch.zeros(2, 3, 60, 8)
    for out, width, windows in ((4, 6, 2), (few() + 1, 4, 4)):
        w, g = torch.zeros(out, 3, 4, 4), torch.zeros(2, out, 30, 4)
        for compute in (
            lambda w=w: convolve(x, w, WORTH, None),
            lambda g=g: correlate(x, g, WORTH),
            lambda w=w, g=g: convolve_and_correlate(x, w, g, WORTH),
        ):
            shapes.clear()
            compute()
            assert {shape[2:6] for shape in shapes} == {(30, windows, 4, width)}


def test_the_kernels_two_ways_are_adjoint() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(5, 3, 4, 4, dtype=torch.float64, generator=generator)
    wide = torch.randn(10, 3, 4, 6, dtype=torch.float64, generator=generator)
    torch.testing.assert_close((doubled_kernels(w, WORTH) * wide).sum(), (w * single_kernels(wide, WORTH)).sum())
    assert doubled_geometry(WORTH) == Geometry((4, 6), stride=(2, 4), padding=(1, 1))


def test_it_is_done_for_short_runs_of_many_positions_and_few_channels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    x, positions = torch.zeros(2, 3, 8, 8), (4, 4)
    assert worth_doubling(x, WORTH, positions, few())
    assert not worth_doubling(x, WORTH, positions, few() + 1)
    assert not worth_doubling(x, WORTH, (4, 3), 4)
    assert not worth_doubling(x.to("meta"), WORTH, positions, 4)
    assert not worth_doubling(torch.zeros(2, 4, 8, 8), WORTH, positions, 4)
    for other in (
        Geometry((4, 2), stride=(2, 2)),  # no position sees what another one does
        Geometry((4, 4), stride=(2, 2), dilation=(1, 2)),
        Geometry((4, 4), stride=(2, 2), groups=3),
    ):
        assert not worth_doubling(x, other, positions, 3)
    monkeypatch.setattr(doubled, "MANY", 32)
    assert worth_doubling(x, WORTH, positions, 4) and not worth_doubling(x[:1], WORTH, positions, 4)
    assert worth_doubling(x, WORTH, (8, 2), 4) and not worth_doubling(x, WORTH, (3, 4), 4)


@pytest.mark.parametrize(("capability", "most"), [("AVX512", 24), ("AVX2", 12)])
def test_slower_products_are_worth_it_for_fewer_channels(
    capability: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    few.cache_clear()
    try:
        assert few() == most
    finally:
        few.cache_clear()
