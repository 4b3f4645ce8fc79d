"""Learning-rate schedules: the rate as a function of the number t of steps of the schedule, in closed form.

A schedule sets `optimizer.lr` when it is made (t = 0) and on every `step()`, which is called after the optimizer's:
once a batch or once an epoch. Names and values are those of `torch.optim.lr_scheduler`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from nn_from_scratch.engine.arguments import integer, real
from nn_from_scratch.engine.optimizers.base import Optimizer
from nn_from_scratch.errors import ArgumentError, StateDictError


class Schedule:
    """The base of all schedules: the optimizer, its first rate, and the number t of steps.

    Args:
        optimizer: whose `lr` is set; the rate that it was made with is the base rate, b.

    Raises:
        ArgumentError: `optimizer` is not an Optimizer.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"optimizer is a {type(optimizer).__name__}, but an Optimizer is expected")
        self.optimizer = optimizer
        self.base_lr = optimizer.initial_lr
        self.t = 0
        optimizer.lr = self.lr_at(0)

    def lr_at(self, t: int) -> float:
        """The rate after t steps."""
        raise TypeError(f"{type(self).__name__} defines no lr_at; write one that returns the rate after t steps")

    def step(self) -> None:
        """Count one step, and set the optimizer's rate."""
        self.t += 1
        self.optimizer.lr = self.lr_at(self.t)

    def state_dict(self) -> dict[str, int]:
        """All that a resumed run needs beside the options."""
        return {"t": self.t}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Take over what `state_dict` gave, and set the optimizer's rate.

        Raises:
            StateDictError: the state is of another form.
        """
        t = state.get("t") if isinstance(state, Mapping) else None
        if t is None or set(state) != {"t"} or not isinstance(t, int) or t < 0:
            raise StateDictError(f"state is {state!r}, but {{'t': a number of steps}} is expected")
        self.t = t
        self.optimizer.lr = self.lr_at(t)


class StepLR(Schedule):
    """b gamma^floor(t / step_size): a factor every few steps.

    Args:
        optimizer: whose rate is set.
        step_size: positive integer.
        gamma: the factor, not negative.

    Raises:
        ArgumentError: an argument makes no sense.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, *, gamma: float = 0.1) -> None:
        self.step_size = integer(step_size, name="step_size", least=1)
        self.gamma = real(gamma, name="gamma", least=0.0)
        super().__init__(optimizer)

    def lr_at(self, t: int) -> float:
        """See the class."""
        return self.base_lr * self.gamma ** (t // self.step_size)


class CosineAnnealingLR(Schedule):
    """eta_min + (b - eta_min) (1 + cos(pi t / T_max)) / 2 (Loshchilov and Hutter, 2017); it rises again after T_max.

    Args:
        optimizer: whose rate is set.
        T_max: steps until eta_min is reached, a positive integer.
        eta_min: the least rate, not negative.

    Raises:
        ArgumentError: an argument makes no sense.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, *, eta_min: float = 0.0) -> None:
        self.T_max = integer(T_max, name="T_max", least=1)
        self.eta_min = real(eta_min, name="eta_min", least=0.0)
        super().__init__(optimizer)

    def lr_at(self, t: int) -> float:
        """See the class."""
        return self.eta_min + (self.base_lr - self.eta_min) * (1 + math.cos(math.pi * t / self.T_max)) / 2


class LinearLR(Schedule):
    """b times a factor that goes from start_factor to end_factor in total_iters steps, and stays there: a warm-up.

    Args:
        optimizer: whose rate is set.
        start_factor: at t = 0, positive and at most 1.
        end_factor: from t = total_iters on, from 0 to 1.
        total_iters: positive integer.

    Raises:
        ArgumentError: an argument makes no sense.
    """

    def __init__(
        self, optimizer: Optimizer, *, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor = real(start_factor, name="start_factor", least=0.0)
        self.end_factor = real(end_factor, name="end_factor", least=0.0)
        if not 0 < start_factor <= 1 or end_factor > 1:
            raise ArgumentError(
                f"start_factor is {start_factor!r} and end_factor is {end_factor!r}, but factors of at most 1 are "
                "expected, the first one positive"
            )
        self.total_iters = integer(total_iters, name="total_iters", least=1)
        super().__init__(optimizer)

    def lr_at(self, t: int) -> float:
        """See the class."""
        done = min(t, self.total_iters) / self.total_iters
        return self.base_lr * (self.start_factor + (self.end_factor - self.start_factor) * done)


class SequentialLR(Schedule):
    """One schedule after another, such as a warm-up and then a cosine; each counts its steps from its own start.

    Args:
        optimizer: whose rate is set.
        schedulers: at least one, all of this optimizer; only their formulas are used.
        milestones: for each but the first the step at which it takes over, increasing.

    Raises:
        ArgumentError: an argument makes no sense.
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Schedule], *, milestones: Sequence[int]) -> None:
        if not isinstance(schedulers, Sequence) or not all(isinstance(one, Schedule) for one in schedulers):
            raise ArgumentError(f"schedulers is {schedulers!r}, but schedules of this very optimizer are expected")
        if not isinstance(milestones, Sequence):
            raise ArgumentError(f"milestones is {milestones!r}, but increasing numbers of steps are expected")
        self.schedulers = tuple(schedulers)
        if not self.schedulers or any(one.optimizer is not optimizer for one in self.schedulers):
            raise ArgumentError(f"schedulers is {schedulers!r}, but schedules of this very optimizer are expected")
        self.milestones = tuple(integer(step, name="milestones", least=1) for step in milestones)
        pairs = zip(self.milestones, self.milestones[1:], strict=False)
        if len(self.milestones) != len(self.schedulers) - 1 or any(a >= b for a, b in pairs):
            raise ArgumentError(
                f"milestones is {milestones!r}, but {len(self.schedulers) - 1} increasing numbers of steps are expected"
            )
        super().__init__(optimizer)

    def lr_at(self, t: int) -> float:
        """See the class."""
        place = bisect_right(self.milestones, t)
        return self.schedulers[place].lr_at(t - self.milestones[place - 1] if place else t)
