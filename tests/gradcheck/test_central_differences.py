"""Every layer against plain central differences, in float64 with a random signed cotangent."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.specs import CATALOGUE, Case, Spec, draw_inputs

STEP = 1e-6

CASES = [pytest.param(spec, case, id=f"{spec.layer.__name__}-{case.name}") for spec in CATALOGUE for case in spec.cases]


def central_difference(layer: nn.Layer, inputs: tuple[Tensor, ...], cotangent: Tensor, tensor: Tensor) -> Tensor:
    """The gradient of <cotangent, layer(inputs)> in `tensor`, an input or a parameter, entry by entry."""
    gradient = torch.zeros_like(tensor)
    flat, result = tensor.view(-1), gradient.view(-1)
    with nn.no_records():
        for entry in range(flat.numel()):
            value = float(flat[entry])
            sides = []
            for step in (STEP, -STEP):
                flat[entry] = value + step
                sides.append(float((layer(*inputs) * cotangent).sum()))
            flat[entry] = value
            result[entry] = (sides[0] - sides[1]) / (2 * STEP)
    return gradient


def reduced(case: Case) -> Case:
    """The report's own layers have thousands of weights; with fewer channels they show as much in less time."""
    if not case.name.startswith("report"):
        return case
    ((n, _, height, width),) = case.shapes
    return Case(case.name, ((n, 2, height, width),), (2, 3, 4), case.options)


@pytest.mark.parametrize(("spec", "case"), CASES)
def test_gradients_are_the_central_differences(spec: Spec, case: Case) -> None:
    case = reduced(case)
    layer = spec.build(case)
    inputs = draw_inputs(case)
    y = layer(*inputs)
    cotangent = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = nn.backward(y, cotangent)
    gradients = found if isinstance(found, tuple) else (found,)
    checked = [*zip(inputs, gradients, strict=True), *((p, p.grad) for p in layer.parameters().values())]
    for tensor, analytic in checked:
        numeric = central_difference(layer, inputs, cotangent, tensor)
        assert analytic is not None
        torch.testing.assert_close(analytic, numeric, rtol=1e-6, atol=1e-7)


def test_a_wrong_gradient_is_noticed() -> None:
    class Wrong(nn.Sigmoid):
        def input_vjp(self, g: Tensor, record: nn.Record) -> Tensor:
            return super().input_vjp(g, record) * (1 + 1e-4)

    layer, x, cotangent = Wrong(), torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    analytic = nn.backward(layer(x), cotangent)
    numeric = central_difference(layer, (x,), cotangent, x)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        torch.testing.assert_close(analytic, numeric, rtol=1e-6, atol=1e-7)
