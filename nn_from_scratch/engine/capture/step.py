"""A training step: forward, loss, backward, update."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.engine.capture.captured import Captured, CapturedByShares
from nn_from_scratch.engine.capture.denormals import flushed_denormals
from nn_from_scratch.engine.capture.graph import warmed_up
from nn_from_scratch.engine.capture.shares import added_up, expect_shareable, shares_of, weights_of
from nn_from_scratch.engine.capture.team import team_of
from nn_from_scratch.engine.convolutions import surrounding_algorithm
from nn_from_scratch.engine.graph import release_records
from nn_from_scratch.engine.layers.initialization import positive
from nn_from_scratch.engine.losses import Loss
from nn_from_scratch.engine.module import Module, backward
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.errors import CaptureError

#: Kinds of batches whose steps are kept; more of them would only fill memory.
KEPT_STEPS = 8

#: What changes in a step, and is no part of what the step does.
_PASSING = {"_records", "_next_index", "lr", "initial_lr", "_steps"}


class TrainingStep:
    """Forward, loss, backward and update in one call, captured once for each kind of batch and then replayed.

    The first batch of a kind (shape, layout, dtype, device) makes an ordinary step; the second is captured; further
    ones replay it, with the same results to the last bit on a CPU. Learning rates may change from step to step. Where
    an option of a module or of the optimizer, a mode or a parameter was exchanged, steps are captured anew.

    On a CPU numbers too small to be normal, below 1.2e-38 in float32, are taken for zeros within a step.

    Args:
        model: whose parameters are updated.
        criterion: called with prediction and target; its value has shape ().
        optimizer: of the model.
        capture: False for ordinary steps only.
        workers: threads that share each batch on a CPU, in captured steps at the same time. Sums over the batch are
            then sums of those over the shares, so another number gives other bits; capturing changes none here either.

    Raises:
        ArgumentError: there is no such number of workers, or they cannot share the batches of this model.
        CaptureError: the optimizer has a `step` of its own.
    """

    def __init__(
        self, model: Module, criterion: Loss, optimizer: Optimizer, *, capture: bool = True, workers: int = 1
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.capture = capture
        self.workers = positive(workers, name="workers")
        if workers > 1:
            expect_shareable(model, criterion)
        if capture and type(optimizer).step is not Optimizer.step:
            raise CaptureError(
                f"{type(optimizer).__name__} has a step of its own, which a captured step would pass over; write an "
                "update instead, or leave steps uncaptured (capture=False)"
            )
        self._watched = _Watched(model, criterion, optimizer)
        self._kept: OrderedDict[Any, Captured | None] = OrderedDict()

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """Make one step.

        Gradients and records of earlier passes are dropped, and none are left behind.

        Args:
            x: input, of a shape that the model takes.
            target: of the shape that the criterion expects beside the prediction.

        Returns:
            The loss before the update, shape (), on the device of the model.

        Raises:
            CaptureError: the step looks at the value of a tensor, or keeps a tensor that it made for the next one, and
                so cannot be captured.
            ShapeError, DtypeError, DeviceError: input and target do not fit.
        """
        if x.is_cuda:
            return self._step(x, target)
        with flushed_denormals():
            return self._step(x, target)

    def _step(self, x: Tensor, target: Tensor) -> Tensor:
        if not self.capture:
            return self._ordinary(x, target)
        if not self._watched.same():
            self._kept.clear()
            self._watched = _Watched(self.model, self.criterion, self.optimizer)
        key = (_kind(x), _kind(target), surrounding_algorithm())
        if key not in self._kept:
            while len(self._kept) >= KEPT_STEPS:
                self._kept.popitem(last=False)
            loss = self._ordinary(x, target)
            self._kept[key] = None
            self._watched = _Watched(self.model, self.criterion, self.optimizer)
            return loss
        if self._watched.has_gradients():
            self.optimizer.zero_grad()
        captured = self._kept[key]
        if captured is None:
            kind = CapturedByShares if self.workers > 1 and not x.is_cuda else Captured
            captured = self._kept[key] = kind(self)
            return captured.first(x, target)
        return captured(x, target)

    @property
    def kept_bytes(self) -> int:
        """Of memory on a CPU that captured steps keep between steps, beside parameters and the optimizer's state."""
        return sum(captured.kept_bytes for captured in self._kept.values() if captured is not None)

    def _ordinary(self, x: Tensor, target: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        if self.workers > 1 and not x.is_cuda:
            (loss,) = team_of(self.workers).together([lambda: self._ordinary_by_shares(x, target)])
            return loss

        def step() -> Tensor:
            with release_records():
                loss = self.criterion(self.model(x), target)
                self.criterion.backward()
            self.groups = [list(named) for named in self.optimizer.groups().values()]
            self.optimizer.step()
            self.optimizer.zero_grad()
            return loss.detach()

        return warmed_up(step) if self.capture and x.is_cuda else step()

    def _ordinary_by_shares(self, x: Tensor, target: Tensor) -> Tensor:
        xs, targets = shares_of(x, self.workers), shares_of(target, self.workers)
        parts = [self.gradients(*share) for share in zip(xs, targets, weights_of(xs, self.criterion), strict=True)]
        loss = self.add_up(parts)
        self.groups = [list(named) for named in self.optimizer.groups().values()]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def gradients(self, x: Tensor, target: Tensor, weight: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a share and its gradients, all times the share's weight; nothing is left behind."""
        with release_records():
            loss = self.criterion(self.model(x), target)
            backward(loss, torch.full_like(loss, weight))
        found = {name: p.grad for name, p in self.model.parameters().items() if p.grad is not None}
        self.optimizer.zero_grad()
        return loss.detach() * weight, found

    def add_up(self, parts: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> Tensor:
        """Give the parameters the gradients of the whole batch; its loss."""
        loss, *sums = added_up([[loss, *gradients.values()] for loss, gradients in parts])
        parameters = self.model.parameters()
        for name, gradient in zip(parts[0][1], sums, strict=True):
            parameters[name].grad = gradient
        return loss


class _Watched:
    """The attributes that decide what a step does: by identity, which costs little to compare."""

    def __init__(self, model: Module, criterion: Loss, optimizer: Optimizer) -> None:
        owners: list[Any] = [*model.all_modules(), criterion, optimizer]
        self._attributes = [vars(owner) for owner in owners]
        self._names = [[name for name in held if name not in _PASSING] for held in self._attributes]
        self._values = list(self._current())
        self._parameters = list(model.parameters().values())

    def _current(self) -> Iterator[Any]:
        for held, names in zip(self._attributes, self._names, strict=True):
            yield len(held)  # small numbers are objects of their own
            for name in names:
                yield held.get(name)

    def same(self) -> bool:
        """Whether nothing was exchanged."""
        return all(map(is_, self._current(), self._values))

    def has_gradients(self) -> bool:
        """Whether somebody left gradients, which the captured step would not know of."""
        return any(parameter.grad is not None for parameter in self._parameters)


def _kind(x: Tensor) -> tuple[Any, ...]:
    return (x.shape, x.stride(), x.dtype, x.device)
