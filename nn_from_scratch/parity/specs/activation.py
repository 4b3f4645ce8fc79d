"""Elementwise activations, softmax and dropout."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.engine import layers
from nn_from_scratch.engine.graph import Record, Saving
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.verify.catalogue import Case, Spec

ELEMENTWISE_CASES = (Case("image", ((2, 3, 4, 5),)), Case("vector", ((7,),)), Case("scalar", ((),)))
AXIS_CASES = (
    Case("channels", ((2, 3, 4, 5),), (1,)),
    Case("last", ((4, 6),), (-1,)),
    Case("first", ((4, 6),), (0,)),
    Case("vector", ((7,),), (0,)),
)
DROPOUT_CASES = (
    Case("training", ((4, 5, 6),)),
    Case("rare", ((4, 5, 6),), (0.1,)),
    Case("none", ((4, 5),), (0,)),
    Case("all", ((4, 5),), (1,)),
    Case("evaluation", ((4, 5),), training=False),
)


class Repeated(Layer):
    """A layer that draws, with draws that repeat: every forward pass starts from the state its generator is in now."""

    def __init__(self, layer: layers.Dropout, generator: torch.Generator) -> None:
        super().__init__()
        self.layer = layer
        self.generator = generator
        self.state = generator.get_state()

    def forward(self, x: Tensor) -> Tensor | Saving:
        """The layer's own, from the same state."""
        self.generator.set_state(self.state)
        return self.layer.forward(x)

    def input_vjp(self, g: Tensor, record: Record) -> Tensor | tuple[Tensor | None, ...]:
        """The layer's own."""
        return self.layer.input_vjp(g, record)


def _repeatable(layer: layers.Dropout) -> Layer:
    return layer if layer.generator is None else Repeated(layer, layer.generator)


def _dropout(layer: layers.Dropout, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    # torch's own takes the global generator alone, so it is set to the state that the layer's is in.
    assert layer.generator is not None
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(layer.generator.get_state())
        return x * F.dropout(torch.ones(x.shape, dtype=x.dtype), layer.p, layer.training).to(x.device)


def _from_zero(layer: object, x: Tensor) -> Tensor:
    return x.abs()


SPECS = (
    Spec(layers.Dropout, DROPOUT_CASES, _dropout, repeatable=_repeatable, twin=torch.nn.Dropout),
    Spec(
        layers.GELU,
        (
            *ELEMENTWISE_CASES,
            Case("tanh_image", ((2, 3, 4, 5),), ("tanh",)),
            Case("tanh_scalar", ((),), (), {"approximate": "tanh"}),
        ),
        F.gelu,
        twin=torch.nn.GELU,
    ),
    Spec(
        layers.LeakyReLU,
        (*ELEMENTWISE_CASES, Case("steep", ((3, 4),), (0.3,)), Case("negative", ((3, 4),), (-1.5,))),
        F.leaky_relu,
        kinks=_from_zero,
        twin=torch.nn.LeakyReLU,
    ),
    Spec(layers.LogSoftmax, AXIS_CASES, F.log_softmax, twin=torch.nn.LogSoftmax),
    Spec(layers.ReLU, ELEMENTWISE_CASES, torch.relu, kinks=_from_zero, twin=torch.nn.ReLU),
    Spec(layers.SiLU, ELEMENTWISE_CASES, F.silu, twin=torch.nn.SiLU),
    Spec(layers.Sigmoid, ELEMENTWISE_CASES, torch.sigmoid, twin=torch.nn.Sigmoid),
    Spec(layers.Softmax, AXIS_CASES, F.softmax, twin=torch.nn.Softmax),
    Spec(layers.Tanh, ELEMENTWISE_CASES, torch.tanh, twin=torch.nn.Tanh),
)
