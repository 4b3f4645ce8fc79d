"""Adam and AdamW."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import real
from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers.base import Optimizer, given
from nn_from_scratch.errors import ArgumentError


class Adam(Optimizer):
    """Adam with bias correction (Kingma and Ba, 2014, algorithm 1).

    grad <- grad + decay theta;   m <- b1 m + (1 - b1) grad;   v <- b2 v + (1 - b2) grad^2;
    theta <- theta - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), where t counts the parameter's steps.

    Args:
        model: the module whose parameters are updated.
        lr: learning rate, not negative.
        betas: (b1, b2), each in [0, 1).
        eps: added to the denominator, not negative.
        weight_decay: not negative; here it goes through m and v, see `AdamW`.

    Raises:
        ArgumentError: an argument makes no sense.
    """

    def __init__(
        self,
        model: Module,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(model, lr=lr, weight_decay=weight_decay)
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise ArgumentError(f"betas is {betas!r}, but a pair of numbers is expected")
        self.betas = (
            real(betas[0], name="betas[0]", least=0.0, below=1.0),
            real(betas[1], name="betas[1]", least=0.0, below=1.0),
        )
        self.eps = real(eps, name="eps", least=0.0)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("mean", "square")

    def update(self, names: list[str], parameters: list[Tensor], gradients: list[Tensor], t: int) -> None:
        gradients = self.decayed(parameters, gradients)
        b1, b2 = self.betas
        m, v = self.states(names, parameters)
        torch._foreach_lerp_(m, gradients, 1 - b1)
        torch._foreach_mul_(v, b2)
        torch._foreach_addcmul_(v, gradients, gradients, 1 - b2)
        # With c = sqrt(1 - b2^t): (sqrt(v) / c + eps) = (sqrt(v) + c eps) / c, so c need not divide every entry.
        c = math.sqrt(1 - b2**t)
        denominators = list(torch._foreach_sqrt(v))
        torch._foreach_add_(denominators, c * self.eps)
        torch._foreach_addcdiv_(parameters, m, denominators, -self.lr * c / (1 - b1**t))

    def __repr__(self) -> str:
        return self.describe(betas=self.betas, eps=self.eps, **given(weight_decay=self.weight_decay))


class AdamW(Adam):
    """Adam whose weight decay does not go through m and v (Loshchilov and Hutter, 2019, algorithm 2).

    theta <- theta - lr decay theta, and then a step of Adam with the gradient alone.

    Args:
        model: the module whose parameters are updated.
        lr: learning rate, not negative.
        betas: (b1, b2), each in [0, 1).
        eps: added to the denominator, not negative.
        weight_decay: not negative.

    Raises:
        ArgumentError: an argument makes no sense.
    """

    def __init__(
        self,
        model: Module,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(model, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def decayed(self, parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        torch._foreach_mul_(parameters, 1 - self.lr * self.weight_decay)
        return gradients
