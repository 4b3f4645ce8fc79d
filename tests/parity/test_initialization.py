"""Initial values of every layer that draws parameters, against those of its counterpart in torch.nn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.parity.exchange import to_torch
from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.verify.catalogue import Case, Spec
from nn_from_scratch.verify.catalogue.twins import constructor_options

# Draws of a tensor are pooled: this many entries where the tensor has enough, and this many layers at the most.
ENTRIES, LAYERS_MADE = 20_000, 400
LEVEL = 1e-6


def draws_parameters(spec: Spec) -> bool:
    return "generator" in constructor_options(spec.subject) and bool(spec.subject.parameter_names)


DRAWING = [
    pytest.param(spec, case, id=f"{spec.name}-{case.name}")
    for spec in LAYERS
    if draws_parameters(spec)
    for case in spec.cases
]


def distance(a: Tensor, b: Tensor) -> float:
    """Kolmogorov and Smirnov's, between two samples."""
    a, b, grid = a.sort().values, b.sort().values, torch.cat([a, b])
    shares = [torch.searchsorted(sample, grid, right=True) / len(sample) for sample in (a, b)]
    return float((shares[0] - shares[1]).abs().max())


def threshold(n: int, m: int) -> float:
    """The distance that two samples of one distribution exceed with a probability of LEVEL."""
    return math.sqrt(-0.5 * math.log(LEVEL / 2) * (n + m) / (n * m))


def some(tensor: Tensor, count: int) -> Tensor:
    return tensor.flatten()[torch.randperm(tensor.numel())[:count]]


def drawn(layers: list[nn.Layer]) -> dict[str, tuple[Tensor, Tensor]]:
    """For each parameter the pooled entries of these layers, and of as many of torch's."""
    theirs = to_torch(layers[0])
    share = -(-ENTRIES // len(layers))
    ours: dict[str, list[Tensor]] = {name: [] for name in layers[0].parameters()}
    reference: dict[str, list[Tensor]] = {name: [] for name in ours}
    for layer in layers:
        theirs.reset_parameters()  # type: ignore[operator]  # every layer of torch that draws has it
        for name, parameter in theirs.named_parameters():
            reference[name].append(some(parameter.detach(), share))
        for name, tensor in layer.parameters().items():
            ours[name].append(some(tensor, share))
    return {name: (torch.cat(ours[name]), torch.cat(reference[name])) for name in ours}


@pytest.mark.parametrize(("spec", "case"), DRAWING)
def test_initial_values_are_distributed_as_torchs(spec: Spec, case: Case) -> None:
    smallest = min(tensor.numel() for tensor in spec.subject(*case.arguments, **case.options).parameters().values())
    count = min(LAYERS_MADE, -(-ENTRIES // smallest))
    layers = [spec.subject(*case.arguments, **case.options) for _ in range(count)]
    for name, (mine, expected) in drawn(layers).items():
        assert distance(mine, expected) < threshold(len(mine), len(expected)), name
        # The ends of the range, which the distance hardly sees: no entry beyond torch's bound, 1/sqrt(fan).
        bound = float(expected.abs().max())
        assert float(mine.abs().max()) == pytest.approx(bound, rel=0.1), name


def test_a_bound_that_is_a_fifth_too_wide_is_seen() -> None:
    layers: list[nn.Layer] = [nn.Linear(3, 5) for _ in range(LAYERS_MADE)]
    mine, expected = drawn(layers)["weight"]
    assert distance(1.2 * mine, expected) > threshold(len(mine), len(expected)) > distance(mine, expected)


def test_every_layer_that_draws_is_looked_at() -> None:
    assert {"Conv2d", "Linear", "TransposeConv2d"} <= {spec.name for spec in LAYERS if draws_parameters(spec)}
