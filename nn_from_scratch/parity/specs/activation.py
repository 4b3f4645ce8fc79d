"""Elementwise activations, softmax and dropout."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.engine.layers import GELU, Dropout, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from nn_from_scratch.parity.specs.draws import repeatable
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


def _dropout(layer: Dropout, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    # torch's own takes the global generator alone, so it is set to the state that the layer's is in.
    assert layer.generator is not None
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(layer.generator.get_state())
        return x * F.dropout(torch.ones(x.shape, dtype=x.dtype), layer.p, layer.training).to(x.device)


def _from_zero(layer: object, x: Tensor) -> Tensor:
    return x.abs()


SPECS = (
    Spec(Dropout, DROPOUT_CASES, _dropout, repeatable=repeatable),
    Spec(
        GELU,
        (
            *ELEMENTWISE_CASES,
            Case("tanh_image", ((2, 3, 4, 5),), ("tanh",)),
            Case("tanh_scalar", ((),), (), {"approximate": "tanh"}),
        ),
        lambda layer, parameters, x: F.gelu(x, approximate=layer.approximate),
    ),
    Spec(
        LeakyReLU,
        (*ELEMENTWISE_CASES, Case("steep", ((3, 4),), (0.3,)), Case("negative", ((3, 4),), (-1.5,))),
        lambda layer, parameters, x: F.leaky_relu(x, layer.negative_slope),
        kinks=_from_zero,
    ),
    Spec(LogSoftmax, AXIS_CASES, lambda layer, parameters, x: F.log_softmax(x, layer.dim)),
    Spec(ReLU, ELEMENTWISE_CASES, lambda layer, parameters, x: torch.relu(x), kinks=_from_zero),
    Spec(SiLU, ELEMENTWISE_CASES, lambda layer, parameters, x: F.silu(x)),
    Spec(Sigmoid, ELEMENTWISE_CASES, lambda layer, parameters, x: torch.sigmoid(x)),
    Spec(Softmax, AXIS_CASES, lambda layer, parameters, x: F.softmax(x, layer.dim)),
    Spec(Tanh, ELEMENTWISE_CASES, lambda layer, parameters, x: torch.tanh(x)),
)
