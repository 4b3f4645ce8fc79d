"""Which way the algorithm `native` takes for a convolution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.engine.convolutions import ALGORITHMS, Geometry, native
from nn_from_scratch.engine.convolutions.columns import convolve
from nn_from_scratch.engine.convolutions.native import FEW_ENTRIES, FEW_ROWS


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches for which columns were taken."""
    found: list[int] = []

    def noted(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        found.append(len(x))
        return convolve(x, *arguments, **options)

    monkeypatch.setattr(native, "convolve", noted)
    return found


def case(
    N: int, size: tuple[int, int] = (8, 8), channels: int = 8, out: int = 4, **options: Any
) -> tuple[Tensor, Tensor, Geometry]:
    """Of a kernel with two rows and one column, and so a row less."""
    x, w = torch.randn(N, channels, size[0] + 1, size[1]), torch.randn(out, channels, 2, 1)
    return x, w, Geometry((2, 1), **options)


@pytest.mark.parametrize(
    ("N", "options", "short"),
    [
        (FEW_ROWS // 64, {}, True),
        (FEW_ROWS // 64 + 1, {}, False),  # more rows
        (FEW_ENTRIES // (64 * 512) - 1, {"channels": 256}, True),
        (FEW_ENTRIES // (64 * 512), {"channels": 256}, False),  # more entries
        (1, {"out": 64}, True),
        (1, {"out": 65}, False),  # more of the kernel than of the columns
        (0, {}, False),
    ],
)
def test_columns_where_the_vendors_kernel_takes_long_to_begin(
    N: int, options: dict[str, Any], short: bool, products: list[int]
) -> None:
    x, w, geometry = case(N, **options)
    b = torch.randn(len(w))
    expected = ALGORITHMS["im2col"].conv2d(x, w, geometry, b)
    torch.testing.assert_close(native.conv2d(x, w, geometry, b), expected, rtol=1e-4, atol=1e-4)
    assert products == ([N] if short else [])


@pytest.mark.parametrize("other", ["float64", "groups", "dilation"])
def test_no_columns_for_what_nobody_measured(other: str, products: list[int]) -> None:
    x, w, geometry = case(2, **({other: 2} if other == "groups" else {other: (2, 1)} if other == "dilation" else {}))
    w = w[:, :4] if other == "groups" else w
    x, w = (x.double(), w.double()) if other == "float64" else (x, w)
    torch.testing.assert_close(native.conv2d(x, w, geometry), ALGORITHMS["im2col"].conv2d(x, w, geometry))
    assert products == []


def test_short_adjoints_take_columns_too(products: list[int]) -> None:
    geometry = Geometry((4, 4), stride=(2, 2))
    g, w = torch.randn(3, 8, 7, 7), torch.randn(8, 4, 4, 4)
    found = native.conv2d_input(g, w, geometry, (16, 16))
    torch.testing.assert_close(found, ALGORITHMS["im2col"].conv2d_input(g, w, geometry, (16, 16)))
    assert sum(products) == 3
