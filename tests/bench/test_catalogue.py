"""Forward and backward of every case of the catalogue, a step of every optimizer; grouped by layer.

Run once by default; `tox -e bench -- --benchmark-enable` measures.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.parity.specs import LAYERS, OPTIMIZERS
from nn_from_scratch.verify.catalogue import Case, OptimizerSpec, Spec
from nn_from_scratch.verify.catalogue.building import prepare

pytestmark = pytest.mark.bench

CASES = [pytest.param(spec, case, id=f"{spec.name}-{case.name}") for spec in LAYERS for case in spec.cases]
STEPS = [pytest.param(spec, case, id=f"{spec.name}-{case.name}") for spec in OPTIMIZERS for case in spec.cases]


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_forward_and_backward(benchmark: Any, spec: Spec, case: Case) -> None:
    prepared = prepare(spec, case, dtype=torch.float32)
    layer: nn.Layer = prepared.subject
    cotangent = torch.ones_like(layer(*prepared.inputs))

    def step() -> tuple[Tensor | None, ...]:
        layer.clear_saved_tensors()
        gradients = nn.backward(layer(*prepared.inputs), cotangent)
        return gradients if isinstance(gradients, tuple) else (gradients,)

    benchmark.group = spec.name
    found = benchmark(step)
    expected = [x.shape if x.is_floating_point() else None for x in prepared.inputs]
    assert [None if gradient is None else gradient.shape for gradient in found] == expected


@pytest.mark.parametrize(("spec", "case"), STEPS)
def test_step_of_an_optimizer(benchmark: Any, spec: OptimizerSpec, case: Case) -> None:
    parameters = [torch.ones(64, 64), torch.ones(64)]
    optimizer = spec.optimizer(spec.hold(parameters), **case.options)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    benchmark.group = "step of an optimizer, 4160 parameters"
    benchmark(optimizer.step)
    assert all(bool((parameter < 1).all()) for parameter in parameters)
