"""The steps for one kind of batch, recorded and compiled, or captured into a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nn_from_scratch.capture.graph import capture_graph
from nn_from_scratch.capture.instructions import Program
from nn_from_scratch.capture.liveness import storages_made
from nn_from_scratch.capture.program import list_instructions, program_of
from nn_from_scratch.capture.recording import record, storage_of
from nn_from_scratch.capture.shares import shares_of, single_thread, team_of, weights_of
from nn_from_scratch.convolutions import unshared_workspaces
from nn_from_scratch.errors import CaptureError
from nn_from_scratch.optimizers import Optimizer

if TYPE_CHECKING:
    from nn_from_scratch.capture.step import TrainingStep


class Captured:
    """The steps for one kind of batch.

    Args:
        step: which has made an ordinary one with such a batch.

    Attributes:
        kept_bytes: of memory on a CPU that stays theirs between steps.
    """

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        parameters = step.model.parameters()
        device = next(iter(parameters.values())).device
        self.groups = [_Group(step.optimizer, names, device) for names in step.groups]
        self.run: Callable[[Tensor, Tensor], Tensor]
        self.kept_bytes = 0

    def first(self, x: Tensor, target: Tensor) -> Tensor:
        """Make a step while it is captured; its loss."""
        for group in self.groups:
            group.advance()
        x, target = x.detach(), target.detach()
        if x.is_cuda:
            self.run = capture_graph(self._compute, (x, target))
            return self.run(x, target)
        loss, self.run = self._recorded(lambda: self._compute(x, target), x, target)
        return loss.clone()

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """Make a step by what was captured; its loss."""
        for group in self.groups:
            group.advance()
        # No operator of a step need look whether somebody takes gradients of it; what is handed out is a plain tensor.
        with torch.inference_mode():
            loss = self.run(x, target)
        return loss.clone()

    def _recorded(self, computation: Callable[[], Tensor], *inputs: Tensor) -> tuple[Tensor, Program]:
        with unshared_workspaces():
            result, calls = record(computation)
        self._refuse_leftovers({*storages_made(calls)})
        listing = list_instructions(calls, inputs, result)
        self.kept_bytes += listing.kept_bytes
        return result, program_of(listing)

    def _compute(self, x: Tensor, target: Tensor) -> Tensor:
        step = self.step
        loss = step.criterion(step.model(x), target)
        step.criterion.backward()
        self._update()
        return loss.detach()

    def _update(self) -> None:
        parameters = self.step.model.parameters()
        for group in self.groups:
            self.step.optimizer.apply({name: parameters[name] for name in group.names}, group.tensors)
        self.step.optimizer.zero_grad()

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


class CapturedByShares(Captured):
    """The steps for one kind of batch that several workers share: a program for each share, and one for the rest."""

    def first(self, x: Tensor, target: Tensor) -> Tensor:
        """Make a step while it is captured; its loss."""
        for group in self.groups:
            group.advance()
        self.team = team_of(self.step.workers)
        (loss,) = self.team.together([lambda: self._record(x.detach(), target.detach())])
        return loss

    def _record(self, x: Tensor, target: Tensor) -> Tensor:
        step = self.step
        parameters = step.model.parameters()
        xs, targets = shares_of(x, step.workers), shares_of(target, step.workers)
        programs: list[Program] = []
        parts: list[tuple[Tensor, dict[str, Tensor]]] = []
        for x, target, weight in zip(xs, targets, weights_of(xs, step.criterion), strict=True):
            # Where each run of a share's program leaves what the last one takes.
            kept = {name: torch.empty_like(parameters[name]) for group in self.groups for name in group.names}
            self.kept_bytes += sum(place.nbytes for place in kept.values())
            compute = partial(self._compute_share, x, target, weight, kept)
            loss, program = self._recorded(compute, x, target)
            parts.append((loss.clone(), kept))
            programs.append(program)
        losses = [loss for loss, _ in parts]
        loss, finish = self._recorded(lambda: self._finish(parts), *losses)

        def run(x: Tensor, target: Tensor) -> Tensor:
            shares = zip(programs, shares_of(x, step.workers), shares_of(target, step.workers), strict=True)
            with single_thread():  # a pool of torch's, once used, keeps a core busy that the next step needs
                losses = self.team.together([partial(_without_autograd, *share) for share in shares])
                return finish(*losses)

        self.run = run
        return loss.clone()

    def _compute_share(self, x: Tensor, target: Tensor, weight: float, kept: dict[str, Tensor]) -> Tensor:
        loss, gradients = self.step.gradients(x, target, weight)
        for name, place in kept.items():
            place.copy_(gradients[name])
        return loss

    def _finish(self, parts: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> Tensor:
        loss = self.step.add_up(parts)
        self._update()
        return loss


def _without_autograd(program: Program, *inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        return program(*inputs)


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
