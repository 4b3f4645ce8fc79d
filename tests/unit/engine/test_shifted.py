"""Convolutions as matrix products with shifted views."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nn_from_scratch.engine.convolutions import Geometry
from nn_from_scratch.engine.convolutions.shifted import convolve_full, is_full


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (3, 2), (1, 3), (4, 1)])
@pytest.mark.parametrize("shape", [(3, 4, 5, 7), (1, 3, 2, 3), (5, 2, 1, 1), (2, 1, 4, 4)], ids=str)
def test_is_the_padded_convolution(shape: tuple[int, ...], rows: int, columns: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    w = torch.randn(6, shape[1], rows, columns, generator=generator, dtype=torch.float64)
    b = torch.randn(6, generator=generator, dtype=torch.float64) if bias else None
    y = convolve_full(x, w, b)
    torch.testing.assert_close(y, torch.conv2d(x, w, b, 1, (rows - 1, columns - 1)))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert y.untyped_storage().nbytes() < (y[:, 0].numel() + columns) * 6 * 8  # little beside the positions


def test_no_memory_is_read_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = torch.ones(2, 3, 4, 4), torch.ones(5, 3, 2, 2)
    expected = torch.conv2d(x, w, None, 1, 1)
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *args: empty(*args).fill_(torch.nan))
    assert torch.equal(convolve_full(x, w, None), expected)


def test_infinite_entries_reach_only_their_own_positions() -> None:
    x = torch.zeros(2, 3, 4, 4)
    x[0, 1, 3, 3] = torch.inf
    y = convolve_full(x, torch.ones(5, 3, 2, 2), None)
    expected = torch.conv2d(x, torch.ones(5, 3, 2, 2), None, 1, 1)
    assert torch.equal(y, expected)


def test_full_is_what_reaches_every_entry_from_every_side() -> None:
    full = Geometry((3, 2), stride=(1, 1), padding=(2, 1))
    assert is_full(full)
    others = [replace(full, padding=(1, 1)), replace(full, padding=(2, 0)), replace(full, groups=2)]
    others += [replace(full, stride=step) for step in ((2, 1), (1, 2))]
    others += [replace(full, dilation=step) for step in ((2, 1), (1, 2))]
    assert not any(map(is_full, others))
