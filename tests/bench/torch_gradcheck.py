"""The usual way to test a backward, for comparison: torch.autograd.gradcheck over the catalogue, slow and fast.

Not collected by itself: the mutation environment of tox names it. Each layer is made a custom function whose
parameters are inputs too, as its author would do, so that gradcheck sees every gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from torch import Tensor
from torch.autograd import gradcheck

import nn_from_scratch as nn
from nn_from_scratch.engine.convolutions import ALGORITHMS
from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.verify.catalogue import Case, Spec
from nn_from_scratch.verify.catalogue.building import prepare
from tests.functions import function

CASES = [
    pytest.param(spec, case, algorithm, id=f"{spec.name}-{case.name}-{algorithm}".removesuffix("-auto"))
    for spec in LAYERS
    for case in spec.cases
    for algorithm in (ALGORITHMS if spec.subject in (nn.Conv2d, nn.TransposeConv2d) else ("auto",))
]
# Slow mode costs two forward passes an entry: a case with more takes a minute, and smaller ones of its layer are there.
MOST_ENTRIES = 1000


def through(layer: Layer, count: int) -> Callable[..., Tensor]:
    """The layer as a function of its inputs, so many, and of its parameters."""

    def run(*tensors: Tensor) -> tuple[Layer, Tensor]:
        own = deepcopy(layer)  # gradcheck calls backward after other forwards, with other values of the parameters
        for parameter, value in zip(own.parameters().values(), tensors[count:], strict=True):
            parameter.copy_(value)
        return own, own(*(x.detach() for x in tensors[:count]))

    def vjp(g: Tensor, *tensors: Tensor) -> tuple[Any, ...]:
        own, _ = run(*tensors)
        found = own.backward(g.clone())
        inputs = found if isinstance(found, tuple) else (found,)
        return (*inputs, *(parameter.grad for parameter in own.parameters().values()))

    return function(lambda *tensors: run(*tensors)[1].clone(), vjp)


def check(spec: Spec, case: Case, algorithm: str, *, fast: bool) -> None:
    """Compare every gradient of the case with torch's finite differences, with torch's own tolerances."""
    prepared = prepare(spec, case)
    layer = prepared.subject if spec.repeatable is None else spec.repeatable(prepared.subject)
    inputs = [x.requires_grad_(x.is_floating_point()) for x in prepared.inputs]
    parameters = [p.clone().requires_grad_() for p in layer.parameters().values()]
    if not fast and sum(t.numel() for t in (*inputs, *parameters)) > MOST_ENTRIES:
        pytest.skip(f"more than {MOST_ENTRIES} entries, which slow mode takes a minute for")
    with nn.convolution_algorithm(algorithm):
        assert gradcheck(through(layer, len(inputs)), (*inputs, *parameters), fast_mode=fast)


@pytest.mark.parametrize(("spec", "case", "algorithm"), CASES)
def test_slow(spec: Spec, case: Case, algorithm: str) -> None:
    check(spec, case, algorithm, fast=False)


@pytest.mark.parametrize(("spec", "case", "algorithm"), CASES)
def test_fast(spec: Spec, case: Case, algorithm: str) -> None:
    check(spec, case, algorithm, fast=True)
