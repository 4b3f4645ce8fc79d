"""Dropout: input and output have the same shape, any shape."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.arguments import real
from nn_from_scratch.engine.graph import Record, Saving
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.errors import ArgumentError


class Dropout(Layer):
    """Training: y = m x / (1 - p), each m independently 0 with probability p, else 1;   dl/dx = m g / (1 - p).

    Evaluation: y = x;   dl/dx = g. (Srivastava et al., 2014, scaled while training.)

    The mask is drawn where the generator lies, by default on the CPU, so that it is the same on every device.

    Args:
        p: the probability that an entry is dropped.
        generator: source of the masks; torch's global one by default.

    Raises:
        ArgumentError: an argument makes no sense.
    """

    needs_inputs = False

    def __init__(self, p: float = 0.5, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.p = real(p, name="p", least=0, most=1)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise ArgumentError(f"generator is a {type(generator).__name__}, but a torch.Generator is expected")
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor | Saving:
        if not self.training or self.p == 0:
            return x.clone()
        keep = 1 - self.p
        device = "cpu" if self.generator is None else self.generator.device
        kind = x.real.dtype
        m = torch.empty(x.shape, dtype=kind, device=device).bernoulli_(keep, generator=self.generator).to(x.device)
        scaled = m / keep if keep else m
        return Saving(x * scaled, (scaled,))

    def input_vjp(self, g: Tensor, record: Record) -> Tensor:
        return g * record.saved[0] if record.saved else g

    def __repr__(self) -> str:
        return self.describe(p=(self.p, 0.5))
