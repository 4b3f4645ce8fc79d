"""Every option of every optimizer against torch.optim, over 100 steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import nn_from_scratch as nn

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.3, "betas": (0.5, 0.9)}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.0}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.5, "eps": 1e-3}),
    ("RMSprop", {"lr": 0.1, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.1, "centered": True}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.5, "centered": True, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=[f"{name}-{options}" for name, options in OPTIONS])
def test_100_steps_take_the_path_of_torch(name: str, options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(8)
    model = nn.Linear(4, 3, generator=generator, dtype=torch.float64)
    assert model.bias is not None
    theirs = [model.weight.clone().requires_grad_(), model.bias.clone().requires_grad_()]
    ours, reference = getattr(nn, name)(model, **options), getattr(torch.optim, name)(theirs, **options)
    loss = nn.MSE()
    for _ in range(100):
        x = torch.randn(8, 4, dtype=torch.float64, generator=generator)
        target = torch.randn(8, 3, dtype=torch.float64, generator=generator)
        ours.zero_grad()
        loss(model(x), target)
        loss.backward()
        ours.step()
        reference.zero_grad()
        torch.nn.functional.mse_loss(torch.nn.functional.linear(x, *theirs), target).backward()
        reference.step()
        for mine, expected in zip((model.weight, model.bias), theirs, strict=True):
            torch.testing.assert_close(mine, expected.detach(), rtol=1e-10, atol=1e-12)
