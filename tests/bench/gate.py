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


def _captured(batch: int, optimizer_name: str) -> Callable[[], object]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    model = nn.report_model(generator=generator).to(device=device)
    x = torch.rand(batch, 3, 32, 32, generator=generator).to(device)
    name, options = _OPTIMIZERS[optimizer_name]
    step = nn.TrainingStep(model, nn.MSE(), getattr(nn, name)(model, **options))
    return lambda: step(x, x)


def _layer(name: str, shape: tuple[int, ...], *arguments: Any, **options: Any) -> Callable[[], object]:
    """Forward and backward of one layer, without a loss or an update."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layer = getattr(nn, name)(*arguments, **options).to(device=device)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
    parameters, g = [*layer.parameters().values()], torch.ones_like(layer(x))
    layer.clear_saved_tensors()

    def both() -> None:
        nn.backward(layer(x), g)
        for parameter in parameters:
            parameter.grad = None

    return both


BENCHMARKS: dict[str, Callable[[], Callable[[], object]]] = {
    **{
        f"training step, batch {batch}, {optimizer}": partial(_step, batch, optimizer)
        for batch in (16, 128)
        for optimizer in _OPTIMIZERS
    },
    "training step, batch 16, momentum, unfold": partial(_step, 16, "momentum", "unfold"),
    "captured training step, batch 16, momentum": partial(_captured, 16, "momentum"),
    "captured training step, batch 128, Adam": partial(_captured, 128, "Adam"),
    "Conv2d, 64x16x16x16": partial(_layer, "Conv2d", (64, 16, 16, 16), 16, 32, 4, stride=2),
    "TransposeConv2d, 64x32x7x7": partial(_layer, "TransposeConv2d", (64, 32, 7, 7), 32, 16, 4, stride=2),
    "Linear, 256x512": partial(_layer, "Linear", (256, 512), 512, 512),
    "BatchNorm2d, 64x16x16x16": partial(_layer, "BatchNorm2d", (64, 16, 16, 16), 16),
    "LayerNorm, 256x512": partial(_layer, "LayerNorm", (256, 512), 512),
    "MaxPool2d, 64x16x16x16": partial(_layer, "MaxPool2d", (64, 16, 16, 16), 2),
    "GELU, 256x512": partial(_layer, "GELU", (256, 512)),
    "Softmax, 256x512": partial(_layer, "Softmax", (256, 512), 1),
}
