"""The benchmarks that a change must not slow down: `nn-from-scratch bench compare --base origin/main`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import nn_from_scratch as nn

_OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 0.1}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "Adam": ("Adam", {"lr": 1e-3}),
}


def _step(batch: int, optimizer_name: str, algorithm: str = "auto") -> Callable[[], object]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    model, loss = nn.report_model(generator=generator).to(device=device), nn.MSE()
    x = torch.rand(batch, 3, 32, 32, generator=generator).to(device)
    name, options = _OPTIMIZERS[optimizer_name]
    optimizer = getattr(nn, name)(model, **options)

    def step() -> None:
        with nn.convolution_algorithm(algorithm):
            optimizer.zero_grad()
            loss(model(x), x)
            loss.backward()
            optimizer.step()

    return step


BENCHMARKS: dict[str, Callable[[], Callable[[], object]]] = {
    **{
        f"training step, batch {batch}, {optimizer}": partial(_step, batch, optimizer)
        for batch in (16, 128)
        for optimizer in _OPTIMIZERS
    },
    "training step, batch 16, momentum, unfold": partial(_step, 16, "momentum", "unfold"),
}
