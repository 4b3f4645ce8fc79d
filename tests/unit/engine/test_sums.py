"""Sums over many entries: the same values by the fast way and by the plain one, and when which is taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nn_from_scratch.engine.sums import RUN, channel_sums, sum_of_squares


def _images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize(
    "x",
    [_images(4, 8, 16, 16), _images(3, RUN), _images(2 * RUN + 1), _images(2 * RUN)[::2], _images(0, 3, 2, 2)],
    ids=lambda x: str(tuple(x.shape)),
)
def test_the_sum_of_squares(x: Tensor, dtype: torch.dtype) -> None:
    x = x.to(dtype) if dtype != torch.complex64 else torch.complex(x, x.flip(0))
    found = sum_of_squares(x)
    assert found.shape == () and found.dtype == dtype
    torch.testing.assert_close(found, x.square().sum())


def test_the_sum_of_squares_is_taken_of_what_lies_in_memory() -> None:
    x = _images(4, 8, 16, 16)
    exact = x.double().square().sum()
    for lying in (x, x.contiguous(), x.transpose(2, 3)):
        assert abs(sum_of_squares(lying).double() - exact) <= 2e-7 * exact
    wide = torch.stack([x, 100 * x], dim=-1)[..., 0]  # dense in no layout: a norm would see its neighbours
    torch.testing.assert_close(sum_of_squares(wide), sum_of_squares(x))


def test_the_sum_of_squares_of_no_numbers() -> None:
    x = torch.ones(RUN)
    x[3] = torch.inf
    assert sum_of_squares(x) == torch.inf
    x[4] = torch.nan
    assert sum_of_squares(x).isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.complex64], ids=str)
@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize(
    "shape", [(4, 3, 8, 8), (4, 3, 4, 3), (1, 3, 3, 3), (2, 16, 4, 4), (2, 33, 2, 2), (0, 3, 4, 4), (5, 1, 1, 1)]
)
def test_the_sums_of_channels(shape: tuple[int, ...], memory: torch.memory_format, dtype: torch.dtype) -> None:
    x = _images(*shape, dtype=dtype).contiguous(memory_format=memory)
    found = channel_sums(x)
    assert found.shape == (shape[1],)
    torch.testing.assert_close(found, x.sum(dim=(0, 2, 3)))


@pytest.mark.parametrize(("channels", "row"), [(1, 32), (3, 48), (8, 32), (15, 60), (16, 32), (31, 62), (32, None)])
def test_rows_of_few_channels_are_summed_as_longer_ones(
    channels: int, row: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, real = _images(8, channels, 16, 16), Tensor.as_strided
    taken: list[tuple[int, ...]] = []

    def watched(x: Tensor, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        taken.append(size)
        return real(x, size, stride)

    monkeypatch.setattr(Tensor, "as_strided", watched)
    channel_sums(x)
    assert taken == ([] if row is None else [(2048 * channels // row, row)])


def test_the_squares_are_not_written_where_the_entries_are_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, ...]] = []
    real = torch.linalg.vector_norm

    def watched(x: Tensor, dim: int) -> Tensor:
        taken.append(tuple(x.shape))
        found: Tensor = real(x, dim=dim)
        return found

    monkeypatch.setattr(torch.linalg, "vector_norm", watched)
    x = _images(4, 8, 16, 16)
    for dense in (x, x.contiguous(), x.flatten()):
        taken.clear()
        sum_of_squares(dense)
        assert taken == [(8, RUN)]
    for other in (x.transpose(2, 3), x.half(), x[:, :7], x[:0]):
        taken.clear()
        sum_of_squares(other)
        assert not taken
