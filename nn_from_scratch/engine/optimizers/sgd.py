"""Stochastic gradient descent."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import real
from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers.base import Optimizer, given
from nn_from_scratch.engine.parameters import switch
from nn_from_scratch.errors import ArgumentError


class SGD(Optimizer):
    """Stochastic gradient descent, with weight decay, momentum and Nesterov's variant as PyTorch defines them.

    grad <- grad + decay theta. Without momentum theta <- theta - lr grad.
    With momentum m: v <- m v + (1 - dampening) grad (v = grad at first), theta <- theta - lr v.
    Nesterov: theta <- theta - lr (grad + m v).

    Args:
        model: the module whose parameters are updated.
        lr: learning rate, not negative.
        momentum: m, in [0, 1).
        dampening: not negative.
        weight_decay: not negative.
        nesterov: needs momentum, and no dampening.

    Raises:
        ArgumentError: an argument makes no sense.
    """

    def __init__(
        self,
        model: Module,
        *,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(model, lr=lr, weight_decay=weight_decay)
        self.momentum = real(momentum, name="momentum", least=0.0, below=1.0)
        self.dampening = real(dampening, name="dampening", least=0.0)
        if switch(nesterov, name="nesterov") and (not self.momentum or self.dampening):
            raise ArgumentError(
                f"nesterov is {nesterov!r} with momentum = {momentum} and dampening = {dampening}, but it needs a "
                "momentum and no dampening"
            )
        self.nesterov = nesterov

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def update(self, names: list[str], parameters: list[Tensor], gradients: list[Tensor], t: int) -> None:
        gradients = self.decayed(parameters, gradients)
        if self.momentum:
            held = [self.state(name, parameter) for name, parameter in zip(names, parameters, strict=True)]
            old = [place for place, state in enumerate(held) if state]
            if old:
                v = [held[place]["momentum"] for place in old]
                torch._foreach_mul_(v, self.momentum)
                torch._foreach_add_(v, [gradients[place] for place in old], alpha=1 - self.dampening)
            for state, gradient in zip(held, gradients, strict=True):
                if not state:
                    state["momentum"] = gradient.clone()
            v = [state["momentum"] for state in held]
            gradients = list(torch._foreach_add(gradients, v, alpha=self.momentum)) if self.nesterov else v
        torch._foreach_add_(parameters, gradients, alpha=-self.lr)

    def __repr__(self) -> str:
        return self.describe(
            momentum=self.momentum,
            **given(dampening=self.dampening, weight_decay=self.weight_decay, nesterov=self.nesterov),
        )
