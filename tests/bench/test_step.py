"""A training step of the report's model in every row of Table I, by batch size.

Run once by default; `tox -e bench -- --benchmark-enable` measures. Ratios to PyTorch, from interleaved pairs, are those
of `test_beside_torch.py` and of `nn-from-scratch bench run table1`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nn_from_scratch.bench.rows import COMPILED, EAGER, OPTIMIZERS, ROWS, Row

pytestmark = pytest.mark.bench

#: Table I's rows; what must be compiled is measured by epochs alone.
ROW_OF = {row.name: row for row in ROWS if row.name != COMPILED}


def batch_of(row: Row, size: int) -> Tensor:
    x = torch.rand(size, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last) if "cpu" in row.channels_last else x


@pytest.mark.parametrize("batch", [16, 128])
@pytest.mark.parametrize("name", ROW_OF)
def test_training_step(benchmark: Any, name: str, batch: int) -> None:
    x = batch_of(ROW_OF[name], batch)
    step = ROW_OF[name].make(x, "SGD with momentum")
    if benchmark.enabled:
        for _ in range(3):  # an ordinary step, a captured one, and one that replays it
            step(x, x)
    benchmark.group = f"training step, batch {batch}"
    benchmark(step, x, x)


@pytest.mark.parametrize("batch", [16, 128])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", [name for name in ROW_OF if name != EAGER])
def test_every_row_computes_the_same_losses(name: str, optimizer: str, batch: int) -> None:
    rows = [ROW_OF[name], ROW_OF[EAGER]]
    xs = [batch_of(row, batch) for row in rows]
    ours, reference = (row.make(x, optimizer) for row, x in zip(rows, xs, strict=True))
    for _ in range(5):
        torch.testing.assert_close(ours(xs[0], xs[0]), reference(xs[1], xs[1]), rtol=1e-5, atol=0.0)
