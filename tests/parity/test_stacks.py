"""Whole models against torch.nn, the error followed from layer to layer: the report's, and stacks drawn at random.

`pytest tests/parity -rP` shows the tables of the report's model.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import nn_from_scratch as nn
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.engine.convolutions import ALGORITHMS
from nn_from_scratch.engine.losses.base import Loss
from nn_from_scratch.parity.follow import Deviation, follow, table
from nn_from_scratch.parity.specs import LAYERS, entry_of
from nn_from_scratch.verify.catalogue import Spec
from nn_from_scratch.verify.catalogue.rounding import tensor_cores
from tests.parity.stacks import STACKABLE, Stack, layer_for, stacks

DTYPES = [torch.float64, torch.float32]
TF32_SPACING = 2.0**-10


def too_far(rows: Sequence[Deviation]) -> list[str]:
    """The rows whose error, of their own or from all layers before, is more than rounding explains."""
    return [
        f"{row.layer}, {row.quantity}: {row.error:.2e} (own {row.own:.2e}), allowed {row.allowed:.2e}"
        for row in rows
        if not (row.error <= row.allowed and row.own <= row.allowed)  # which NaN is not either
    ]


def clear_of_kinks(stack: Stack, distance: float) -> bool:
    """Whether no value lies so near to a kink that rounding may take the two sides to different slopes."""
    y = stack.x
    for layer in stack.model:
        entry = entry_of(type(layer))
        assert isinstance(entry, Spec)
        if entry.kinks is not None and bool((entry.kinks(layer, y) < distance).any()):
            return False
        with nn.no_records():
            y = layer(y)
    return True


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_the_reports_model_agrees_to_rounding_in_every_layer(algorithm: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    model = report_model(generator=generator, dtype=dtype)
    x, target = (torch.rand(4, 3, 32, 32, dtype=dtype, generator=generator) for _ in range(2))
    with nn.convolution_algorithm(algorithm):
        rows = follow(model, x, target)
    sys.stdout.write(table(rows, f"{algorithm}, {dtype}"))
    assert too_far(rows) == []
    # Value, gradient propagated and parameters of eight layers; value and gradient of the loss.
    assert len(rows) == 2 * 8 + 4 * 2 + 2
    if dtype == torch.float64:  # the figures of the report, whose gradients are as large as these
        assert max(row.error for row in rows if row.quantity != "value") < 1e-17


@given(stack=stacks())
def test_random_stacks_agree_in_float64(stack: Stack) -> None:
    assume(clear_of_kinks(stack, 1e-9))
    assert too_far(follow(stack.model, stack.x, stack.target)) == []


@given(stack=stacks(dtype=torch.float32))
def test_random_stacks_agree_in_float32(stack: Stack) -> None:
    assume(clear_of_kinks(stack, 1e-5))
    assert too_far(follow(stack.model, stack.x, stack.target)) == []


@pytest.mark.parametrize("spec", STACKABLE, ids=lambda spec: spec.name)
@given(data=st.data())
def test_every_layer_that_torch_has_too_can_be_drawn(spec: Spec, data: st.DataObject) -> None:
    layer = layer_for(data.draw, torch.randn(2, 4, 6, 5, dtype=torch.float64), spec)
    assert type(layer) is spec.subject, (
        f"no case of {spec.name} fits an image: draw its options in tests/parity/stacks.py"
    )


def test_only_layers_that_join_and_losses_have_no_twin_in_torch() -> None:
    others = {spec.subject for spec in LAYERS} - {spec.subject for spec in STACKABLE}
    assert {layer for layer in others if not issubclass(layer, Loss)} == {nn.Add, nn.Concat}


def test_a_relative_error_of_1e_12_is_seen_where_it_arises_and_in_every_layer_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Sigmoid(), nn.Linear(4, 3)).to(dtype=torch.float64)
    x, target = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    assert too_far(follow(model, x, target)) == []
    right = nn.Sigmoid.input_vjp

    def off_by_little(layer: nn.Sigmoid, g: torch.Tensor, record: nn.Record) -> torch.Tensor:
        gradient = right(layer, g, record)
        assert isinstance(gradient, torch.Tensor)
        return gradient * (1 + 1e-12)

    monkeypatch.setattr(nn.Sigmoid, "input_vjp", off_by_little)
    rows = follow(model, x, target)
    off = {(row.layer, row.quantity) for row in rows if row.error > row.allowed}
    assert off == {
        ("0 Linear", "weight"),
        ("0 Linear", "bias"),
        ("0 Linear", "propagated"),
        ("1 Tanh", "propagated"),
        ("2 Sigmoid", "propagated"),
    }
    assert {(row.layer, row.quantity) for row in rows if row.own > row.allowed} == {("2 Sigmoid", "propagated")}


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float64", "float32", "tf32"])
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_on_a_gpu_the_reports_model_agrees_to_rounding(algorithm: str, precision: str) -> None:
    tf32 = precision == "tf32"
    dtype = torch.float64 if precision == "float64" else torch.float32
    generator = torch.Generator().manual_seed(0)
    model = report_model(generator=generator, dtype=dtype)
    x, target = (torch.rand(4, 3, 32, 32, dtype=dtype, generator=generator) for _ in range(2))
    with nn.convolution_algorithm(algorithm), tensor_cores(tf32=tf32):
        rows = follow(model, x, target, device="cuda", rounding=TF32_SPACING if tf32 else None)
    sys.stdout.write(table(rows, f"cuda, {algorithm}, {precision}"))
    assert too_far(rows) == []


@pytest.mark.gpu
@given(stack=stacks())
def test_on_a_gpu_random_stacks_agree_in_float64(stack: Stack) -> None:
    assume(clear_of_kinks(stack, 1e-9))
    assert too_far(follow(stack.model, stack.x, stack.target, device="cuda")) == []


@pytest.mark.gpu
@given(stack=stacks(dtype=torch.float32))
def test_on_a_gpu_random_stacks_agree_in_float32(stack: Stack) -> None:
    assume(clear_of_kinks(stack, 1e-5))
    with tensor_cores(tf32=False):
        assert too_far(follow(stack.model, stack.x, stack.target, device="cuda")) == []


# TF32 moves values by a thousandth, so that among some hundred of them one nearly always lies that near to a kink:
# ReLU and max pooling meet it in the catalogue, one layer at a time.
@pytest.mark.gpu
@given(stack=stacks(dtype=torch.float32, kinks=False))
def test_on_a_gpu_random_stacks_agree_in_tf32(stack: Stack) -> None:
    with tensor_cores(tf32=True):
        assert too_far(follow(stack.model, stack.x, stack.target, device="cuda", rounding=TF32_SPACING)) == []
