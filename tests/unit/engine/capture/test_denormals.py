"""Steps take numbers that are too small to be normal for zeros, and leave everything else as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import nn_from_scratch as nn
from nn_from_scratch.engine.capture.denormals import are_flushed, flushed_denormals
from nn_from_scratch.errors import ShapeError

SMALL = 1e-39

pytestmark = pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = are_flushed()
    yield
    torch.set_flush_denormal(before)


@pytest.mark.parametrize("before", [False, True])
def test_the_thread_is_as_before_afterwards(before: bool) -> None:
    torch.set_flush_denormal(before)
    assert are_flushed() is before
    with flushed_denormals():
        assert are_flushed()
        with flushed_denormals():
            pass
        assert are_flushed()
    assert are_flushed() is before
    model = nn.Linear(3, 2)
    step = nn.TrainingStep(model, nn.MSE(), nn.SGD(model, lr=0.1))
    for _ in range(3):
        step(torch.ones(4, 3), torch.ones(4, 2))
        assert are_flushed() is before
    with pytest.raises(ShapeError):
        step(torch.ones(4, 5), torch.ones(4, 2))
    assert are_flushed() is before


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("capture", [True, False])
def test_what_decays_becomes_zero(capture: bool, workers: int) -> None:
    torch.set_flush_denormal(False)
    model = nn.Linear(3, 2)
    optimizer = nn.SGD(model, lr=0.1, momentum=0.5)
    step = nn.TrainingStep(model, nn.MSE(), optimizer, capture=capture, workers=workers)
    x = torch.zeros(4, 3)  # so the weights have no gradient
    for _ in range(3):
        step(x, torch.ones(4, 2))
    momentum = optimizer.state_dict()["momentum.weight"]
    momentum.fill_(SMALL)
    assert bool((momentum > 0).all())
    step(x, torch.ones(4, 2))
    assert bool((optimizer.state_dict()["momentum.weight"] == 0).all())


@pytest.mark.parametrize("workers", [1, 2])
def test_small_activations_of_every_share_are_zeros(workers: int) -> None:
    torch.set_flush_denormal(False)
    model = nn.Linear(1, 1, bias=False)
    model.weight.fill_(1.0)
    step = nn.TrainingStep(model, nn.L1(reduction="sum"), nn.SGD(model, lr=0.0), workers=workers)
    for _ in range(4):
        assert float(step(torch.full((4, 1), SMALL), torch.zeros(4, 1))) == 0
