"""Layer by layer against torch.autograd: value, input gradient and parameter gradients."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.convolutions import ALGORITHMS
from nn_from_scratch.specs import CATALOGUE, Bound, Case, Spec, draw_inputs

CASES = [
    pytest.param(spec, case, algorithm, id=f"{spec.layer.__name__}-{case.name}-{algorithm}".removesuffix("-auto"))
    for spec in CATALOGUE
    for case in spec.cases
    for algorithm in (ALGORITHMS if spec.layer in (nn.Conv2d, nn.TransposeConv2d) else ("auto",))
]


def compare(spec: Spec, case: Case, algorithm: str, *, dtype: torch.dtype, device: str, tolerance: float) -> None:
    """Hold value and all gradients against torch's, relative to the largest entry of each."""
    layer = spec.build(case, dtype=dtype)
    layer.to(device)
    inputs = tuple(x.to(device) for x in draw_inputs(case, dtype=dtype))
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    parameters = {name: p.clone().requires_grad_() for name, p in layer.parameters().items()}
    expected = spec.reference(layer, parameters, *leaves)
    with nn.convolution_algorithm(algorithm):
        y = layer(*inputs)
    cotangent = torch.randn(y.shape, dtype=dtype, generator=torch.Generator().manual_seed(5)).to(device)
    expected.backward(cotangent)
    with nn.convolution_algorithm(algorithm):
        found = nn.backward(y, cotangent)

    pairs: list[tuple[str, Tensor | None, Tensor | None]] = [("value", y, expected.detach())]
    for place, gradient in enumerate(found if isinstance(found, tuple) else (found,)):
        if leaves[place].requires_grad:
            pairs.append((f"input {place}", gradient, leaves[place].grad))
        else:
            assert gradient is None, f"input {place}"
    pairs += [(name, p.grad, parameters[name].grad) for name, p in layer.parameters().items()]
    for name, mine, theirs in pairs:
        assert mine is not None and theirs is not None, name
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype and mine.device == theirs.device, name
        scale = float(theirs.abs().max()) if theirs.numel() else 0.0
        assert float((mine - theirs).abs().max()) <= tolerance * scale, name


@pytest.mark.parametrize(("spec", "case", "algorithm"), CASES)
def test_float64_agrees_to_rounding(spec: Spec, case: Case, algorithm: str) -> None:
    compare(spec, case, algorithm, dtype=torch.float64, device="cpu", tolerance=spec.bound.float64)


@pytest.mark.parametrize(("spec", "case", "algorithm"), CASES)
def test_float32_agrees_to_rounding(spec: Spec, case: Case, algorithm: str) -> None:
    compare(spec, case, algorithm, dtype=torch.float32, device="cpu", tolerance=spec.bound.float32)


def test_a_bound_of_its_own_has_a_reason() -> None:
    for spec in CATALOGUE:
        assert spec.bound == Bound() or spec.bound.reason, spec.layer.__name__


@pytest.fixture
def full_precision() -> Iterator[None]:
    """Convolutions and products in float32 proper; TF32, the default of convolutions, keeps ten bits of it."""
    conv, matmul = import_module("torch.backends.cudnn").conv, torch.backends.cuda.matmul
    before = conv.fp32_precision, matmul.fp32_precision
    conv.fp32_precision = matmul.fp32_precision = "ieee"
    yield
    conv.fp32_precision, matmul.fp32_precision = before


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("spec", "case", "algorithm"), CASES)
@pytest.mark.usefixtures("full_precision")
def test_on_a_gpu_it_agrees_to_rounding(spec: Spec, case: Case, algorithm: str, dtype: torch.dtype) -> None:
    tolerance = spec.bound.float64 if dtype == torch.float64 else spec.bound.float32
    compare(spec, case, algorithm, dtype=dtype, device="cuda", tolerance=tolerance)
