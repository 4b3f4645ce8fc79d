"""Learning-rate schedules: against torch's, resumed, misused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

import nn_from_scratch as nn
from nn_from_scratch.engine.optimizers.schedules import Schedule
from nn_from_scratch.errors import ArgumentError, StateDictError

MAKERS: dict[str, Callable[[Any, Any], Any]] = {
    "step": lambda library, o: library.StepLR(o, 3, gamma=0.5),
    "cosine": lambda library, o: library.CosineAnnealingLR(o, 7, eta_min=0.01),
    "warm-up": lambda library, o: library.LinearLR(o, start_factor=0.1, total_iters=4),
    "decay": lambda library, o: library.LinearLR(o, start_factor=1.0, end_factor=0.2, total_iters=6),
    "warm-up-cosine": lambda library, o: library.SequentialLR(
        o,
        [library.LinearLR(o, start_factor=0.1, total_iters=4), library.CosineAnnealingLR(o, 9)],
        milestones=[4],
    ),
    "three": lambda library, o: library.SequentialLR(
        o,
        [library.LinearLR(o), library.StepLR(o, 2), library.LinearLR(o, start_factor=0.5, total_iters=3)],
        milestones=[5, 9],
    ),
}


def optimizer(lr: float = 0.4) -> nn.SGD:
    return nn.SGD(nn.Linear(1, 1), lr=lr)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_rates_are_torchs(make: Callable[[Any, Any], Any]) -> None:
    mine, theirs = optimizer(), torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    schedule, reference = make(nn, mine), make(lr_scheduler, theirs)
    for _ in range(20):
        assert mine.lr == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
        theirs.step()
        schedule.step()
        reference.step()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_restored_schedule_goes_on_where_it_was(make: Callable[[Any, Any], Schedule]) -> None:
    first, second = optimizer(), optimizer()
    schedule, restored = make(nn, first), make(nn, second)
    for _ in range(6):
        schedule.step()
    restored.load_state_dict(schedule.state_dict())
    assert first.lr == second.lr
    schedule.step()
    restored.step()
    assert first.lr == second.lr


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: nn.StepLR(o, 0), "step_size is 0, but an integer of at least 1 is expected"),
        (lambda o: nn.StepLR(o, 2, gamma=-1), "gamma is -1, but a finite number"),
        (lambda o: nn.CosineAnnealingLR(o, 0), "T_max is 0, but an integer of at least 1"),
        (lambda o: nn.CosineAnnealingLR(o, 3, eta_min=-1), "eta_min is -1, but a finite number"),
        (lambda o: nn.LinearLR(o, start_factor=0), "start_factor is 0 and end_factor is 1.0, but factors of at most 1"),
        (lambda o: nn.LinearLR(o, total_iters=0), "total_iters is 0, but an integer of at least 1"),
        (lambda o: nn.SequentialLR(o, [], milestones=[]), r"schedulers is \[\], but schedules of this very optimizer"),
        (lambda o: nn.SequentialLR(o, [nn.StepLR(optimizer(), 1)], milestones=[]), "but schedules of this very"),
        (
            lambda o: nn.SequentialLR(o, [nn.StepLR(o, 1), nn.StepLR(o, 1)], milestones=[]),
            r"milestones is \[\], but 1 increasing numbers of steps are expected",
        ),
        (lambda o: nn.StepLR(o.model, 1), "optimizer is a Linear, but an Optimizer is expected"),
    ],
)
def test_misuse_is_refused(make: Callable[[Any], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make(optimizer())


def test_something_else_than_a_state_is_refused() -> None:
    schedule = nn.StepLR(optimizer(), 2)
    for state in ({}, {"t": -1}, {"t": 1, "more": 2}):
        with pytest.raises(StateDictError, match="but {'t': a number of steps} is expected"):
            schedule.load_state_dict(state)


def test_an_unfinished_schedule_says_what_to_write() -> None:
    with pytest.raises(TypeError, match="Schedule defines no lr_at"):
        Schedule(optimizer())
