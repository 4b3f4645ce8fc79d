"""A training step: forward, loss, backward, update."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from operator import is_
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.capture.graph import capture_graph, warmed_up
from nn_from_scratch.capture.liveness import storages_made
from nn_from_scratch.capture.program import compile_program
from nn_from_scratch.capture.recording import record, storage_of
from nn_from_scratch.convolutions import surrounding_algorithm, unshared_workspaces
from nn_from_scratch.errors import CaptureError
from nn_from_scratch.losses import Loss
from nn_from_scratch.module import Module
from nn_from_scratch.optimizers import Optimizer

#: Kinds of batches whose steps are kept; more of them would only fill memory.
KEPT_STEPS = 8

#: What changes in a step, and is no part of what the step does.
_PASSING = {"_records", "_next_index", "lr", "initial_lr", "_steps"}


class TrainingStep:
    """Forward, loss, backward and update in one call, captured once for each kind of batch and then replayed.

    The first batch of a kind (shape, layout, dtype, device) makes an ordinary step; the second is captured; further
    ones replay it, with the same results to the last bit on a CPU. Learning rates may change from step to step. Where
    an option of a module or of the optimizer, a mode or a parameter was exchanged, steps are captured anew.

    Args:
        model: whose parameters are updated.
        criterion: called with prediction and target; its value has shape ().
        optimizer: of the model.
        capture: False for ordinary steps only.

    Raises:
        CaptureError: the optimizer has a `step` of its own.
    """

    def __init__(self, model: Module, criterion: Loss, optimizer: Optimizer, *, capture: bool = True) -> None:
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.capture = capture
        if capture and type(optimizer).step is not Optimizer.step:
            raise CaptureError(
                f"{type(optimizer).__name__} has a step of its own, which a captured step would pass over; write an "
                "update instead, or leave steps uncaptured (capture=False)"
            )
        self._watched = _Watched(model, criterion, optimizer)
        self._kept: OrderedDict[Any, _Captured | None] = OrderedDict()

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
            captured = self._kept[key] = _Captured(self)
            return captured.first(x, target)
        return captured(x, target)

    def _ordinary(self, x: Tensor, target: Tensor) -> Tensor:
        self.optimizer.zero_grad()

        def step() -> Tensor:
            loss = self.criterion(self.model(x), target)
            self.criterion.backward()
            self.groups = [list(named) for named in self.optimizer.groups().values()]
            self.optimizer.step()
            self.optimizer.zero_grad()
            return loss.detach()

        return warmed_up(step) if self.capture and x.is_cuda else step()


class _Captured:
    """The steps for one kind of batch."""

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        parameters = step.model.parameters()
        device = next(iter(parameters.values())).device
        self.groups = [_Group(step.optimizer, names, device) for names in step.groups]
        self.run: Callable[[Tensor, Tensor], Tensor]

    def first(self, x: Tensor, target: Tensor) -> Tensor:
        for group in self.groups:
            group.advance()
        x, target = x.detach(), target.detach()
        if x.is_cuda:
            self.run = capture_graph(self._compute, (x, target))
            return self.run(x, target)
        with unshared_workspaces():
            loss, calls = record(lambda: self._compute(x, target))
        self._refuse_leftovers({*storages_made(calls)})
        self.run = compile_program(calls, (x, target), loss)
        return loss.clone()

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        for group in self.groups:
            group.advance()
        # No operator of a step need look whether somebody takes gradients of it; what is handed out is a plain tensor.
        with torch.inference_mode():
            loss = self.run(x, target)
        return loss.clone()

    def _compute(self, x: Tensor, target: Tensor) -> Tensor:
        step = self.step
        loss = step.criterion(step.model(x), target)
        step.criterion.backward()
        parameters = step.model.parameters()
        for group in self.groups:
            step.optimizer.apply({name: parameters[name] for name in group.names}, group.tensors)
        step.optimizer.zero_grad()
        return loss.detach()

    def _refuse_leftovers(self, made: set[int]) -> None:
        """A tensor that is kept for the next step must be one that the program writes to."""
        step = self.step
        kept = {**step.model.state_dict(), **step.optimizer.state_dict()}
        for name, tensor in kept.items():
            if storage_of(tensor) in made and not name.startswith("step."):
                raise CaptureError(
                    f"{name!r} was replaced by another tensor during the step, but a captured step can only write to "
                    "the one that was there; change it in place, or leave the step uncaptured (capture=False)"
                )


class _Group:
    """Parameters that have made equally many steps, and the coefficients of their update as tensors of shape ()."""

    def __init__(self, optimizer: Optimizer, names: list[str], device: torch.device) -> None:
        self.optimizer = optimizer
        self.names = names
        self.values = optimizer.coefficients(1)
        # In double precision, as Python's numbers are; with a tensor of more axes the result has that one's dtype.
        self.tensors = {
            name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in self.values.items()
        }

    def advance(self) -> None:
        """Count a step, and let the tensors hold its coefficients."""
        t = self.optimizer.advance(self.names)
        for name, value in self.optimizer.coefficients(t).items():
            if value != self.values[name]:
                self.values[name] = value
                self.tensors[name].fill_(value)


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
