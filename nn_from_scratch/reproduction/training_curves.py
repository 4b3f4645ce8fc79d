"""Figure 2: the same training by this package and by torch.nn, with the same weights, batches and order.

Axes: N pairs, C = 3 channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.denoise.data import PairSet, batches, load_pairs
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.scores import psnr
from nn_from_scratch.denoise.settings import TrainingSettings
from nn_from_scratch.denoise.training import make_optimizer, train
from nn_from_scratch.engine.module import Module
from nn_from_scratch.parity.exchange import to_torch
from nn_from_scratch.reproduction.parts import BATCH, OPTIMIZERS, OURS, Plan

_BETAS = (0.9, 0.999)
_CHUNK = 500


@lru_cache(maxsize=1)
def pairs_of(plan: Plan) -> PairSet:
    """The data, drawn once in a process; the seeds of figure 2 differ in weights and order alone."""
    return load_pairs(plan.data, train_size=plan.train_size, validation_size=plan.validation_size, seed=0)


def curve(plan: Plan, *, optimizer: str, side: str, seed: int) -> dict[str, Any]:
    """Train for the epochs of the plan; PSNR of the validation images in dB and mean loss after each."""
    settings = TrainingSettings(epochs=plan.epochs, batch_size=BATCH, seed=seed, **OPTIMIZERS[optimizer])
    model = _model(seed, plan.device, torch.float32)
    losses, values = (
        _ours(model, pairs_of(plan), settings) if side == OURS else _torchs(model, pairs_of(plan), settings)
    )
    return {"optimizer": optimizer, "side": side, "seed": seed, "psnr": values, "loss": losses}


def rounding(plan: Plan) -> dict[str, Any]:
    """A short run in float64 on both sides, for each optimizer.

    Returns:
        "steps", and for each optimizer "weights", the largest difference of two weights relative to the largest
        weight, "loss", the relative difference of the mean losses, and "moved", how far the largest weight moved.
    """
    whole = pairs_of(plan)
    number = min(BATCH * plan.rounding_steps, len(whole.train_noisy_a))
    pairs = replace(
        whole,
        train_noisy_a=whole.train_noisy_a[:number],
        train_noisy_b=whole.train_noisy_b[:number],
        validation_noisy=whole.validation_noisy[:8],
        validation_clean=whole.validation_clean[:8],
    )
    rows = {}
    for name, options in OPTIMIZERS.items():
        settings = TrainingSettings(epochs=1, batch_size=BATCH, **options)
        before, one, other = (_model(0, plan.device, torch.float64) for _ in range(3))
        (loss,), _ = _ours(one, pairs, settings)
        (expected,), _ = _torchs(other, pairs, settings)
        largest = max(float(tensor.abs().max()) for tensor in other.parameters().values())
        rows[name] = {
            "weights": _difference(one, other) / largest,
            "loss": abs(loss - expected) / expected,
            "moved": _difference(before, other) / largest,
        }
    return {"steps": -(-number // BATCH), "optimizers": rows}


def _model(seed: int, device: str, dtype: torch.dtype) -> Module:
    return report_model(generator=torch.Generator().manual_seed(seed), dtype=dtype).to(device)


def _difference(one: Module, other: Module) -> float:
    theirs = other.parameters()
    return max(float((tensor - theirs[name]).abs().max()) for name, tensor in one.parameters().items())


def _ours(model: Module, pairs: PairSet, settings: TrainingSettings) -> tuple[list[float], list[float]]:
    history = train(model, make_optimizer(model, settings), pairs, settings=settings).history
    return [result.loss for result in history], [result.psnr for result in history if result.psnr is not None]


def _torchs(model: Module, pairs: PairSet, settings: TrainingSettings) -> tuple[list[float], list[float]]:
    """Train torch's counterpart, and give its weights back to the model."""
    theirs = to_torch(model)
    parameters = list(theirs.parameters())
    optimizer: torch.optim.Optimizer
    if settings.optimizer == "adam":
        optimizer = torch.optim.Adam(parameters, lr=settings.lr, betas=_BETAS)
    else:
        optimizer = torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum)
    device, dtype = parameters[0].device, parameters[0].dtype
    losses, values = [], []
    for epoch in range(1, settings.epochs + 1):
        total = torch.zeros((), dtype=torch.float64, device=device)
        drawn = batches(
            pairs, batch_size=settings.batch_size, seed=settings.seed, epoch=epoch, device=device, dtype=dtype
        )
        for x, y in drawn:
            loss = torch.nn.functional.mse_loss(theirs(x), y)
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach() * len(x)
        losses.append(float(total) / len(pairs.train_noisy_a))
        values.append(psnr(_denoised(theirs, pairs.validation_noisy, device, dtype), pairs.validation_clean))
    model.load_state_dict(theirs.state_dict())
    return losses, values


def _denoised(model: torch.nn.Module, images: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.no_grad():
        parts = [
            model(part.to(device).to(dtype) / 255).mul(255).round().clamp(0, 255).to(torch.uint8).cpu()
            for part in torch.split(images, _CHUNK)
        ]
    return torch.cat(parts)
