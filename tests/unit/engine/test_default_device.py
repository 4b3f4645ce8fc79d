"""The device that torch takes by default, as after `torch.set_default_device("cuda")`, is not that of a pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.engine.convolutions import convolution_algorithm, native
from nn_from_scratch.engine.losses.base import Loss
from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.verify.catalogue import Case, Spec
from nn_from_scratch.verify.catalogue.building import prepare

CASES = [pytest.param(spec, case, id=f"{spec.name}-{case.name}") for spec in LAYERS for case in spec.cases]


def passes(spec: Spec, case: Case, *, device: str) -> list[Tensor | None]:
    """Value and gradients of a layer on the CPU, that of a loss by its `backward()` without an argument too."""
    prepared = prepare(spec, case)
    layer = prepared.subject if spec.repeatable is None else spec.repeatable(prepared.subject)
    found: list[Tensor | None] = []
    with torch.device(device):
        y = layer(*prepared.inputs)
        gradients = nn.backward(y, torch.linspace(-1, 1, y.numel(), dtype=y.dtype, device="cpu").reshape(y.shape))
        found += [y, *gradients] if isinstance(gradients, tuple) else [y, gradients]
        if isinstance(layer, Loss):
            layer.backward()
    return found + [parameter.grad for parameter in layer.parameters().values()]


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_a_pass_on_the_cpu(spec: Spec, case: Case) -> None:
    with convolution_algorithm("unfold"):
        elsewhere, here = (passes(spec, case, device=device) for device in ("meta", "cpu"))
    for one, other in zip(elsewhere, here, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or torch.equal(one, other)


def test_what_is_kept_for_the_next_call_lies_where_its_tensors_do() -> None:
    native._shape_of_weight.cache_clear()
    layer, x = nn.Conv2d(1, 2, 3, algorithm="native"), torch.ones(2, 1, 5, 5)
    found = []
    for device in ("meta", "cpu"):
        with torch.device(device):
            nn.backward(layer(x), torch.ones(2, 2, 3, 3, device="cpu"))
        found.append(layer.weight.grad)
        layer.weight.grad = None
    assert found[0] is not None and found[1] is not None
    assert torch.equal(found[0], found[1]) and found[0].device.type == "cpu"
