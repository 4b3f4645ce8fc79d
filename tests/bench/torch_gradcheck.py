"""The usual way to test a backward, for comparison: torch.autograd.gradcheck over the catalogue, slow and fast.

Not collected by itself: the mutation environment of tox names it. Each layer is made an autograd.Function whose
parameters are inputs too, as its author would do, so that gradcheck sees every gradient.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import nn_from_scratch as nn
from nn_from_scratch.engine.convolutions import ALGORITHMS
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.verify.catalogue import Case, Spec
from nn_from_scratch.verify.catalogue.building import prepare

CASES = [
    pytest.param(spec, case, algorithm, id=f"{spec.name}-{case.name}-{algorithm}".removesuffix("-auto"))
    for spec in LAYERS
    for case in spec.cases
    for algorithm in (ALGORITHMS if spec.subject in (nn.Conv2d, nn.TransposeConv2d) else ("auto",))
]
# Slow mode costs two forward passes an entry: a case with more takes a minute, and smaller ones of its layer are there.
MOST_ENTRIES = 1000


class _Through(torch.autograd.Function):
    """A layer's forward and backward, with its parameters as further inputs."""

    @staticmethod
    def forward(ctx: Any, layer: Layer, count: int, *tensors: Tensor) -> Tensor:
        layer = deepcopy(layer)  # gradcheck calls backward after other forwards, with other values of the parameters
        for parameter, value in zip(layer.parameters().values(), tensors[count:], strict=True):
            parameter.copy_(value)
        y = layer(*(x.detach() for x in tensors[:count]))
        ctx.layer, ctx.index = layer, y.input_index  # type: ignore[attr-defined]  # set on every output
        return y.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        for parameter in ctx.layer.parameters().values():
            parameter.grad = None
        handed = g.clone()
        handed.input_index = ctx.index  # type: ignore[attr-defined]  # how a cotangent says whose it is
        found = ctx.layer.backward(handed)
        inputs = found if isinstance(found, tuple) else (found,)
        gradients = [parameter.grad for parameter in ctx.layer.parameters().values()]
        return (None, None, *inputs, *gradients)


def check(spec: Spec, case: Case, algorithm: str, *, fast: bool) -> None:
    """Compare every gradient of the case with torch's finite differences, with torch's own tolerances."""
    prepared = prepare(spec, case)
    layer = prepared.subject if spec.repeatable is None else spec.repeatable(prepared.subject)
    inputs = [x.requires_grad_(x.is_floating_point()) for x in prepared.inputs]
    parameters = [p.clone().requires_grad_() for p in layer.parameters().values()]
    if not fast and sum(t.numel() for t in (*inputs, *parameters)) > MOST_ENTRIES:
        pytest.skip(f"more than {MOST_ENTRIES} entries, which slow mode takes a minute for")
    with nn.convolution_algorithm(algorithm):
        assert gradcheck(
            lambda *tensors: _Through.apply(layer, len(inputs), *tensors), (*inputs, *parameters), fast_mode=fast
        )


@pytest.mark.parametrize(("spec", "case", "algorithm"), CASES)
def test_slow(spec: Spec, case: Case, algorithm: str) -> None:
    check(spec, case, algorithm, fast=False)


@pytest.mark.parametrize(("spec", "case", "algorithm"), CASES)
def test_fast(spec: Spec, case: Case, algorithm: str) -> None:
    check(spec, case, algorithm, fast=True)
