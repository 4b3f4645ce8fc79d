"""The columns of an image: in how many parts they are taken, and when they need not be copied."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nn_from_scratch.bench.counts import _Operators
from nn_from_scratch.engine.convolutions import ALGORITHMS, Geometry, columns, swapped, unfold
from nn_from_scratch.engine.convolutions.columns import MOST_PARTS, PART_BYTES, PARTS, SMALL_BYTES

# A kernel and positions of unequal sides, so that no factor of a part's size stands in for another one.
GEOMETRY = Geometry(kernel=(5, 3), padding=(2, 0))


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Samples and bytes of the columns that are copied from now on, part by part."""
    taken: list[tuple[int, int]] = []

    copied = columns._Columns.of

    def watched(own: columns._Columns, image: Tensor) -> Tensor:
        found = copied(own, image)
        if own.copies:
            taken.append((len(image), found.nbytes))
        return found

    monkeypatch.setattr(columns._Columns, "of", watched)
    return taken


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("N", "size"),
    [
        (1, (12, 9)),  # far less than a part
        (4, (12, 9)),  # four samples, one part
        (30, (12, 9)),  # as many parts as there are at least
        (700, (12, 9)),  # many samples in each of many parts
        (3, (130, 160)),  # a sample is more than a part
    ],
)
def test_a_part_is_as_many_samples_as_fit_and_at_least_one(
    N: int, size: tuple[int, int], dtype: torch.dtype, parts: list[tuple[int, int]]
) -> None:
    x, w = torch.zeros(N, 6, *size, dtype=dtype), torch.zeros(2, 6, 5, 3, dtype=dtype)
    s = unfold.conv2d(x, w, GEOMETRY)
    for compute in (lambda: unfold.conv2d(x, w, GEOMETRY), lambda: unfold.conv2d_weight(x, s, GEOMETRY)):
        parts.clear()
        compute()
        whole = sum(nbytes for _, nbytes in parts)
        assert whole == N * 6 * 5 * 3 * s.shape[2] * s.shape[3] * x.element_size()
        assert sum(n for n, _ in parts) == N
        assert len(parts) <= min(max(-(-whole // PART_BYTES), min(PARTS, -(-whole // SMALL_BYTES))), MOST_PARTS)
        assert all((n - 1) * (nbytes // n) < max(PART_BYTES, whole // MOST_PARTS) for n, nbytes in parts)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_parts_of_a_batch_come_to_the_whole(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "PART_BYTES", 3 * 6 * 5 * 3 * 12 * 7 * 8)  # three samples
    generator, geometry = torch.Generator().manual_seed(0), replace(GEOMETRY, groups=groups)
    x, w, b, g = (
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in ((11, 6, 12, 9), (4, 6 // groups, 5, 3), (4,), (11, 4, 12, 7))
    )
    oracle = ALGORITHMS["im2col"]
    s, in_w = oracle.conv2d(x, w, geometry), oracle.conv2d_weight(x, g, geometry)
    torch.testing.assert_close(unfold.conv2d(x, w, geometry, b), s + b[:, None, None])
    torch.testing.assert_close(unfold.conv2d(x, w, geometry), s)
    torch.testing.assert_close(unfold.conv2d_weight(x, g, geometry), in_w)
    torch.testing.assert_close(unfold.conv2d_and_weight(x, w, g, geometry), (s, in_w))


def test_parts_are_small_as_long_as_they_are_few(parts: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, sample = torch.zeros(16, 6, 12, 9), torch.zeros(2, 6, 5, 3), 6 * 5 * 3 * 12 * 7 * 4
    for limit, expected in ((16 * sample, 1), (16 * sample - 1, 2), (4 * sample, 4), (2 * sample, 8), (1, PARTS)):
        monkeypatch.setattr(columns, "SMALL_BYTES", limit)
        parts.clear()
        unfold.conv2d(x, w, GEOMETRY)
        assert len(parts) == expected


@pytest.mark.parametrize("algorithm", ["unfold", "native"])
def test_no_operator_is_asked_for_because_the_batch_is_larger(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "PART_BYTES", 1)
    monkeypatch.setattr(swapped, "PART", 1)
    way, geometry, w = ALGORITHMS[algorithm], Geometry((4, 4), stride=(2, 2)), torch.ones(8, 8, 4, 4)
    asked = []
    for N in (MOST_PARTS * 16, MOST_PARTS * 8, MOST_PARTS * 16):  # what depends on shapes alone is there by then
        with _Operators() as mode:
            for channels in (8, 1):
                x, g = torch.ones(N, channels, 8, 8), torch.ones(N, 8, 3, 3)
                way.conv2d(x, w[:, :channels], geometry)
                way.conv2d_weight(x, g, geometry)
                way.conv2d_and_weight(x, w[:, :channels], g, geometry)
                way.conv2d_input(g, w[:, :channels], geometry, (8, 8))
        asked.append(mode.count)
    assert asked[1] == asked[2]


def test_where_memory_is_not_short_parts_are_fewer(parts: list[tuple[int, int]]) -> None:
    x, w = torch.randn(64, 6, 12, 9), torch.randn(2, 6, 5, 3)
    expected = unfold.conv2d(x, w, GEOMETRY)
    for fewer in (1, 2, 3):
        parts.clear()
        s = columns.convolve(x, w, GEOMETRY, None, parts=fewer)
        assert len(parts) == max(fewer, -(-64 * 6 * 5 * 3 * 12 * 7 * 4 // PART_BYTES))
        torch.testing.assert_close(s, expected)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_kernels_may_lie_either_way(groups: int, memory: torch.memory_format) -> None:
    geometry = replace(GEOMETRY, groups=groups)
    x, w = torch.randn(3, 6, 12, 9), torch.randn(4, 6 // groups, 5, 3).contiguous(memory_format=memory)
    torch.testing.assert_close(columns.convolve(x, w, geometry, None), ALGORITHMS["im2col"].conv2d(x, w, geometry))


def test_columns_that_serve_two_maps_are_copied_once(parts: list[tuple[int, int]]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(700, 6, 12, 9, generator=generator), torch.randn(2, 6, 5, 3, generator=generator)
    g = torch.randn(700, 2, 12, 7, generator=generator)
    s, gradient = unfold.conv2d(x, w, GEOMETRY), unfold.conv2d_weight(x, g, GEOMETRY)
    alone = len(parts)
    parts.clear()
    both = unfold.conv2d_and_weight(x, w, g, GEOMETRY)
    assert len(parts) == alone // 2 > 1
    assert torch.equal(both[0], s) and torch.equal(both[1], gradient)


def test_elsewhere_than_on_the_cpu_all_samples_are_one_part(parts: list[tuple[int, int]]) -> None:
    x, w = torch.zeros(700, 6, 12, 9, device="meta"), torch.zeros(2, 6, 5, 3, device="meta")
    unfold.conv2d(x, w, GEOMETRY)
    assert [n for n, _ in parts] == [700]


def test_the_pixels_of_a_kernel_of_one_entry_are_columns_already(parts: list[tuple[int, int]]) -> None:
    unfold.conv2d(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 1, 1), Geometry((1, 1)))
    assert not parts


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry((1, 1), padding=(2, 0)),
        Geometry((1, 1), padding=(0, 1)),
        Geometry((2, 1), stride=(2, 1)),
        Geometry((1, 2), stride=(1, 2)),
        Geometry((1, 1), stride=(2, 2)),
        Geometry((1, 1), groups=3),
    ],
    ids=str,
)
def test_kernels_that_almost_take_the_pixels_as_they_are(geometry: Geometry) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, 4, dtype=torch.float64, generator=generator)
    w = torch.randn(3, 3 // geometry.groups, *geometry.kernel, dtype=torch.float64, generator=generator)
    oracle = ALGORITHMS["im2col"]
    s = oracle.conv2d(x, w, geometry)
    torch.testing.assert_close(unfold.conv2d(x, w, geometry), s)
    torch.testing.assert_close(unfold.conv2d_weight(x, s, geometry), oracle.conv2d_weight(x, s, geometry))
    torch.testing.assert_close(unfold.conv2d_input(s, w, geometry, (6, 4)), oracle.conv2d_input(s, w, geometry, (6, 4)))
