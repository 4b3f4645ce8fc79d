"""Layers that draw, with draws that repeat."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.engine.graph import Record, Saving
from nn_from_scratch.engine.layer import Layer


class Repeated(Layer):
    """A layer that draws, with draws that repeat: every forward pass starts from the state its generator is in now."""

    def __init__(self, layer: Layer, generator: torch.Generator) -> None:
        super().__init__()
        self.layer = layer
        self.generator = generator
        self.state = generator.get_state()

    def forward(self, *inputs: Tensor) -> Tensor | Saving:
        """The layer's own, from the same state."""
        self.generator.set_state(self.state)
        return self.layer.forward(*inputs)

    def input_vjp(self, g: Tensor, record: Record) -> Tensor | tuple[Tensor | None, ...]:
        """The layer's own."""
        return self.layer.input_vjp(g, record)


def repeatable(layer: Layer) -> Layer:
    """The layer itself, or one around it that draws the same on every call: what can be differentiated."""
    generator = getattr(layer, "generator", None)
    return Repeated(layer, generator) if isinstance(generator, torch.Generator) else layer
