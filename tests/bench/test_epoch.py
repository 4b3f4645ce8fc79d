"""The report's Table I, as benchmarks: an epoch of its model in every row, with the losses compared with PyTorch's.

Run once by default, on a few samples; `tox -e bench -- --benchmark-enable` measures a part of an epoch on the CPU, and
`-m gpu` on the GPU. The whole table, with its rows interleaved, is `nn-from-scratch bench run table1`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.bench.rows import COMPILED, EAGER, OPTIMIZERS, ROWS, Row, Step

# The compiler uses what torch itself calls deprecated, while it is imported.
pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]

BATCH = 128
ROW_OF = {row.name: row for row in ROWS}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]

Epoch = list[tuple[Tensor, Tensor]]


def epoch_of(row: Row, samples: int, device: str, batch: int = BATCH) -> Epoch:
    """Batches on the device, lying in memory as the row takes them; the last one may be smaller."""
    generator = torch.Generator().manual_seed(1)
    layout = torch.channels_last if device in row.channels_last else torch.contiguous_format
    x, y = (
        torch.rand(samples, 3, 32, 32, generator=generator).to(device).contiguous(memory_format=layout)
        for _ in range(2)
    )
    return list(zip(x.split(batch), y.split(batch), strict=True))


def train(step: Step, epoch: Epoch) -> Tensor:
    losses = torch.zeros(len(epoch), device=epoch[0][0].device)
    for number, batch in enumerate(epoch):
        losses[number].copy_(step(*batch))
    return losses


def expect_eagers_losses(row: Row, optimizer: str, device: str, *, samples: int, batch: int) -> None:
    # Four epochs: the first steps are ordinary, the second captured, the others replayed.
    losses = []
    for one in (row, ROW_OF[EAGER]):
        epoch = epoch_of(one, samples, device, batch)
        step = one.make(epoch[0][0], optimizer)
        losses.append(torch.stack([train(step, epoch) for _ in range(4)]))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4 if device == "cpu" else 1e-2, atol=0.0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", [name for name in ROW_OF if name not in (EAGER, COMPILED)])
def test_every_row_reaches_the_losses_of_pytorch(name: str, optimizer: str, device: str) -> None:
    expect_eagers_losses(ROW_OF[name], optimizer, device, samples=10, batch=4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ROW_OF)
def test_epoch(benchmark: Any, name: str, optimizer: str, device: str) -> None:
    measured = benchmark.enabled
    if name == COMPILED and not measured:
        pytest.skip("compiling takes longer than all other rows together; it is measured with --benchmark-enable")
    row = ROW_OF[name]
    epoch = epoch_of(row, 20 * BATCH if measured else 6, device, BATCH if measured else 4)
    step = row.make(epoch[0][0], optimizer)
    if measured:
        expect_eagers_losses(row, optimizer, device, samples=3 * BATCH, batch=BATCH)
        for batch in (epoch[0], epoch[-1]):
            for _ in range(3):
                step(*batch)
    benchmark.group = f"Table I on {device}: {len(epoch)} steps of {len(epoch[0][0])}, {optimizer}"
    losses = benchmark(train, step, epoch)
    assert bool(losses.isfinite().all())
