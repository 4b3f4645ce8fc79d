"""Batches that several threads share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.engine.capture import captured
from nn_from_scratch.engine.capture.instructions import Listing
from nn_from_scratch.engine.capture.program import list_instructions
from nn_from_scratch.engine.capture.waiting import IN_ORDER
from nn_from_scratch.errors import ArgumentError


def losses_and_parameters(
    workers: int,
    *,
    capture: bool = True,
    dtype: torch.dtype = torch.float64,
    reduction: str = "mean",
    adam: bool = False,
) -> tuple[list[float], Tensor]:
    model = report_model(generator=torch.Generator().manual_seed(0), dtype=dtype)
    lr = 0.1 if reduction == "mean" else 1e-5
    optimizer = nn.Adam(model, lr=0.01) if adam else nn.SGD(model, lr=lr, momentum=0.9)
    step = nn.TrainingStep(model, nn.MSE(reduction=reduction), optimizer, capture=capture, workers=workers)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for size in (7, 7, 7, 1, 1, 7):
        x, y = (torch.rand(size, 3, 8, 12, generator=generator, dtype=dtype) for _ in range(2))
        losses.append(float(step(x, y)))
    return losses, torch.cat([p.flatten() for p in model.parameters().values()])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("workers", [2, 3])
def test_shares_make_the_step_of_the_batch(workers: int, reduction: str) -> None:
    losses, parameters = losses_and_parameters(workers, reduction=reduction)
    expected_losses, expected = losses_and_parameters(1, reduction=reduction)
    assert losses == pytest.approx(expected_losses, rel=1e-13)
    torch.testing.assert_close(parameters, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("adam", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_capturing_changes_no_bit(dtype: torch.dtype, adam: bool) -> None:
    losses, parameters = losses_and_parameters(2, dtype=dtype, adam=adam)
    for _ in range(2):  # nor does which thread is first
        again, same = losses_and_parameters(2, dtype=dtype, adam=adam)
        assert again == losses and torch.equal(same, parameters)
    ordinary, same = losses_and_parameters(2, dtype=dtype, adam=adam, capture=False)
    assert ordinary == losses and torch.equal(same, parameters)


def test_a_batch_without_samples_has_one_share() -> None:
    model = nn.Linear(2, 1)
    step = nn.TrainingStep(model, nn.MSE(reduction="sum"), nn.SGD(model, lr=0.1), workers=2)
    before = model.weight.clone()
    for _ in range(3):
        assert float(step(torch.ones(0, 2), torch.ones(0, 1))) == 0
    assert torch.equal(model.weight, before)


class Mixing(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0)


@pytest.mark.parametrize(
    "layer",
    [lambda: nn.BatchNorm2d(3), lambda: nn.Dropout(0.5), lambda: nn.Softmax(dim=0), Mixing],
    ids=["batch statistics", "drawn numbers", "across the batch", "a subclass"],
)
def test_what_looks_beyond_a_sample_is_refused(layer: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), layer())
    name = type(model[1]).__name__
    with pytest.raises(ArgumentError, match=f"{name} is not known to treat each sample by itself; use workers=1"):
        nn.TrainingStep(model, nn.MSE(), nn.SGD(model, lr=0.1), workers=2)


def test_losses_and_numbers_that_make_no_sense_are_refused() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(ArgumentError, match="BCEWithLogits is not known"):
        nn.TrainingStep(model, nn.BCEWithLogits(), nn.SGD(model, lr=0.1), workers=2)
    with pytest.raises(ArgumentError, match="reduction"):
        nn.TrainingStep(model, nn.MSE(reduction="none"), nn.SGD(model, lr=0.1), workers=2)
    with pytest.raises(ArgumentError, match="workers is 0"):
        nn.TrainingStep(model, nn.MSE(), nn.SGD(model, lr=0.1), workers=0)


def test_shares_are_computed_by_the_algorithm_of_the_caller() -> None:
    def parameters(algorithm: str) -> Tensor:
        with nn.convolution_algorithm(algorithm):
            return losses_and_parameters(2, dtype=torch.float32)[1]

    assert torch.equal(parameters("unfold"), parameters("unfold"))
    assert not torch.equal(parameters("im2col"), parameters("native"))


def test_gradients_are_written_where_they_are_added_and_the_last_program_has_no_memory_of_its_own() -> None:
    model = report_model(generator=torch.Generator().manual_seed(0))
    step = nn.TrainingStep(model, nn.MSE(), nn.SGD(model, lr=0.1), workers=2)
    recorded = []

    def noted(*arguments: Any) -> Listing:
        recorded.append(list_instructions(*arguments))
        return recorded[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captured, "list_instructions", noted)
        for _ in range(2):
            step(torch.rand(8, 3, 32, 32), torch.rand(8, 3, 32, 32))
    *shares, last = recorded
    assert len(shares) == 2
    for share in shares:
        copied = [i.arguments[0].numel() for i in share.instructions if i.function is torch.ops.aten.copy_.default]
        assert not {p.numel() for p in model.parameters().values() if p.ndim == 1} & set(copied)
    assert last.kept_bytes == 0 < shares[0].kept_bytes and last.block is shares[0].block
    entries = sum(p.numel() for p in model.parameters().values()) + 1
    assert step.kept_bytes == sum(share.kept_bytes for share in shares) + 2 * 4 * entries


@pytest.mark.skipif(not IN_ORDER, reason="here the end of a share passes through a lock")
def test_other_shares_ring_once_at_their_end() -> None:
    model = nn.Linear(3, 2)
    step = nn.TrainingStep(model, nn.MSE(), nn.SGD(model, lr=0.1), workers=3)
    x, y = torch.ones(6, 3), torch.ones(6, 2)
    step(x, y), step(x, y)
    (found,) = step._kept.values()
    assert isinstance(found, captured.CapturedByShares)
    for _ in range(3):
        before = [len(bell.rung) for bell in found.team.bells]
        step(x, y)
        assert [len(bell.rung) for bell in found.team.bells] == [3 - length for length in before]
    assert [task.rings for task in found.tasks] == [True, True]
