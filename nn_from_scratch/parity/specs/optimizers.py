"""Optimizers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from nn_from_scratch.engine import optimizers
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.verify.catalogue import Case, OptimizerSpec


class Held(Layer):
    """Parameters alone, for an optimizer to update."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__()
        self.held = {str(position): parameter for position, parameter in enumerate(parameters)}

    def own_parameters(self) -> dict[str, Tensor]:
        """The parameters by position."""
        return self.held


SPECS = (
    OptimizerSpec(
        optimizers.Adam,
        (
            Case("default"),
            Case("betas_eps", options={"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}),
            Case("weight_decay", options={"lr": 0.1, "weight_decay": 0.1}),
            Case("no_mean", options={"lr": 0.1, "betas": (0.0, 0.9)}),
        ),
        torch.optim.Adam,
        Held,
    ),
    OptimizerSpec(
        optimizers.AdamW,
        (
            Case("default"),
            Case("betas_eps", options={"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}),
            Case("weight_decay", options={"lr": 0.1, "weight_decay": 0.3, "betas": (0.5, 0.9)}),
            Case("no_decay", options={"lr": 0.1, "weight_decay": 0.0}),
        ),
        torch.optim.AdamW,
        Held,
    ),
    OptimizerSpec(
        optimizers.RMSprop,
        (
            Case("default"),
            Case("alpha_eps", options={"lr": 0.1, "alpha": 0.5, "eps": 1e-3}),
            Case("weight_decay", options={"lr": 0.1, "weight_decay": 0.1}),
            Case("momentum", options={"lr": 0.1, "momentum": 0.9}),
            Case("centered", options={"lr": 0.1, "centered": True, "eps": 1e-3}),
            Case("everything", options={"lr": 0.1, "momentum": 0.5, "centered": True, "weight_decay": 0.1}),
        ),
        torch.optim.RMSprop,
        Held,
    ),
    OptimizerSpec(
        optimizers.SGD,
        (
            Case("plain", options={"lr": 0.1}),
            Case("weight_decay", options={"lr": 0.1, "weight_decay": 0.1}),
            Case("momentum", options={"lr": 0.1, "momentum": 0.9}),
            Case("dampening", options={"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
            Case("nesterov", options={"lr": 0.1, "momentum": 0.9, "nesterov": True}),
            Case("everything", options={"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ),
        torch.optim.SGD,
        Held,
    ),
)
