"""RMSprop."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import real
from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers.base import Optimizer, given
from nn_from_scratch.engine.parameters import switch


class RMSprop(Optimizer):
    """Gradients over the root of their mean square (Tieleman and Hinton, 2012), as PyTorch defines it.

    grad <- grad + decay theta;   v <- a v + (1 - a) grad^2;   s = grad / (sqrt(v) + eps);   theta <- theta - lr s.
    Centered: m <- a m + (1 - a) grad, and v - m^2 under the root.
    With momentum b: u <- b u + s, theta <- theta - lr u.

    Args:
        model: the module whose parameters are updated.
        lr: learning rate, not negative.
        alpha: a, in [0, 1).
        eps: added to the denominator, not negative.
        weight_decay: not negative.
        momentum: b, in [0, 1).
        centered: whether the variance is taken instead of the mean square.

    Raises:
        ArgumentError: an argument makes no sense.
    """

    def __init__(
        self,
        model: Module,
        *,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(model, lr=lr, weight_decay=weight_decay)
        self.alpha = real(alpha, name="alpha", least=0.0, below=1.0)
        self.eps = real(eps, name="eps", least=0.0)
        self.momentum = real(momentum, name="momentum", least=0.0, below=1.0)
        self.centered = switch(centered, name="centered")

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("square", *(("mean",) if self.centered else ()), *(("momentum",) if self.momentum else ()))

    def update(self, names: list[str], parameters: list[Tensor], gradients: list[Tensor], t: int) -> None:
        gradients = self.decayed(parameters, gradients)
        a = self.alpha
        kept = dict(zip(self.state_names, self.states(names, parameters), strict=True))
        v = kept["square"]
        torch._foreach_mul_(v, a)
        torch._foreach_addcmul_(v, gradients, gradients, 1 - a)
        if self.centered:
            m = kept["mean"]
            torch._foreach_lerp_(m, gradients, 1 - a)
            v = list(torch._foreach_addcmul(v, m, m, -1))
        denominators = list(torch._foreach_sqrt(v))
        torch._foreach_add_(denominators, self.eps)
        s = list(torch._foreach_div(gradients, denominators))
        if self.momentum:
            u = kept["momentum"]
            torch._foreach_mul_(u, self.momentum)
            torch._foreach_add_(u, s)
            s = u
        torch._foreach_add_(parameters, s, alpha=-self.lr)

    def __repr__(self) -> str:
        return self.describe(
            alpha=self.alpha,
            eps=self.eps,
            **given(weight_decay=self.weight_decay, momentum=self.momentum, centered=self.centered),
        )
