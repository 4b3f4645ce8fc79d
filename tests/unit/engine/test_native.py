"""Which way the algorithm `native` takes for a transposed convolution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.engine.convolutions import ALGORITHMS, Geometry, native


@pytest.fixture
def phases(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The channels of the results that came by phases."""
    found: list[int] = []
    by_phases = native._by_phases

    def noted(g: Tensor, w: Tensor, *rest: Any) -> Tensor:
        found.append(w.shape[1])
        return by_phases(g, w, *rest)

    monkeypatch.setattr(native, "_by_phases", noted)
    return found


@pytest.mark.parametrize(
    ("channels", "geometry", "extra", "taken"),
    [
        (3, Geometry((4, 4), stride=(2, 2), padding=(1, 1)), (0, 0), True),  # the report's last layer
        (native.MIN_CHANNELS - 1, Geometry((4, 6), stride=(2, 3), padding=(1, 2)), (1, 1), True),
        (1, Geometry((3, 2), stride=(3, 1)), (0, 0), True),
        (2, Geometry((2, 4), stride=(1, 2), padding=(0, 1)), (0, 1), True),
        (native.MIN_CHANNELS, Geometry((4, 4), stride=(2, 2)), (0, 0), False),
        (3, Geometry((4, 3), stride=(2, 2)), (0, 0), False),  # phases of two sizes
        (3, Geometry((3, 4), stride=(2, 2)), (0, 0), False),
        (3, Geometry((3, 3)), (0, 0), False),
        (2, Geometry((4, 4), stride=(2, 2), groups=2), (0, 0), False),
        (3, Geometry((4, 4), stride=(2, 2), dilation=(2, 1)), (0, 0), False),
        (3, Geometry((4, 4), stride=(2, 2)), (1, 0), False),  # a row that no kernel reaches
        (3, Geometry((4, 4), stride=(2, 2)), (0, 1), False),
    ],
)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
def test_results_of_few_channels_come_by_equal_phases(
    channels: int,
    geometry: Geometry,
    extra: tuple[int, int],
    taken: bool,
    memory: torch.memory_format,
    phases: list[int],
) -> None:
    generator = torch.Generator().manual_seed(0)
    g, w, b = (
        torch.randn(shape, generator=generator)
        for shape in ((2, 6, 4, 5), (6, channels, *geometry.kernel), (channels * geometry.groups,))
    )
    size = geometry.transposed_size((4, 5), extra)
    for bias in (None, b):
        found = native.conv2d_input(g.contiguous(memory_format=memory), w, geometry, size, bias)
        expected = ALGORITHMS["unfold"].conv2d_input(g, w, geometry, size, bias)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert phases == [channels] * 2 * taken
