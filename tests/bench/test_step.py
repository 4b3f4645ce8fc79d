"""A training step of the report's model, ours and torch's.

Run once by default; `tox -e bench -- --benchmark-enable` measures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import nn_from_scratch as nn
from nn_from_scratch.models import report_model

pytestmark = pytest.mark.bench


def step_of_ours(x: torch.Tensor) -> Callable[[], None]:
    model, loss = report_model(), nn.MSE()
    optimizer = nn.SGD(model, lr=0.5, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss(model(x), x)
        loss.backward()
        optimizer.step()

    return step


def step_of_torch(x: torch.Tensor) -> Callable[[], None]:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 4, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 4, stride=2),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(32, 16, 4, stride=2),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1),
        torch.nn.Sigmoid(),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), x).backward()
        optimizer.step()

    return step


@pytest.mark.parametrize("batch", [16, 128])
@pytest.mark.parametrize("make", [step_of_ours, step_of_torch])
def test_training_step(benchmark: Any, make: Callable[[torch.Tensor], Callable[[], None]], batch: int) -> None:
    benchmark.group = f"training step, batch {batch}"
    benchmark(make(torch.rand(batch, 3, 32, 32)))
