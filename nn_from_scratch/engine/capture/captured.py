"""The steps for one kind of batch, recorded and compiled, or captured into a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nn_from_scratch.engine.capture.graph import capture_graph
from nn_from_scratch.engine.capture.instructions import Listing, Program
from nn_from_scratch.engine.capture.interpreted import interpreted_program
from nn_from_scratch.engine.capture.liveness import storages_made
from nn_from_scratch.engine.capture.memory import Blocks
from nn_from_scratch.engine.capture.program import list_instructions, program_of
from nn_from_scratch.engine.capture.recording import record, storage_of
from nn_from_scratch.engine.capture.shares import shares_of, weights_of
from nn_from_scratch.engine.capture.team import Task, team_of
from nn_from_scratch.engine.capture.waiting import IN_ORDER
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.engine.optimizers.packing import parted
from nn_from_scratch.errors import CaptureError

if TYPE_CHECKING:
    from nn_from_scratch.engine.capture.step import TrainingStep


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
        loss, listing = self._listed(lambda: self._compute(x, target), x, target)
        self.run = program_of(listing)
        return loss.clone()

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """Make a step by what was captured; its loss."""
        for group in self.groups:
            group.advance()
        # No operator of a step need look whether somebody takes gradients of it; what is handed out is a plain tensor.
        with torch.inference_mode():
            loss = self.run(x, target)
        return loss.clone()

    def _listed(
        self,
        computation: Callable[[], Tensor],
        *inputs: Tensor,
        wanted: Sequence[Tensor] = (),
        spare: Blocks = (),
    ) -> tuple[Tensor, Listing]:
        result, calls = record(computation)
        self._refuse_leftovers({*storages_made(calls)})
        listing = list_instructions(calls, inputs, result, wanted, spare)
        self.kept_bytes += listing.kept_bytes
        return result, listing

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
    """The steps for one kind of batch that several workers share: a program for each share, and one for the rest.

    A share's gradients and loss lie in memory one after the other, so that those of all shares are added by one call.
    """

    def first(self, x: Tensor, target: Tensor) -> Tensor:
        """Make a step while it is captured; its loss."""
        for group in self.groups:
            group.advance()
        self.team = team_of(self.step.workers)
        (loss,) = self.team.together([lambda: self._record(x.detach(), target.detach())])
        return loss

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """Make a step by what was captured; its loss."""
        workers, shares = self.step.workers, self.shares
        for share, *inputs in zip(shares, shares_of(x, workers), shares_of(target, workers), strict=True):
            share.inputs = inputs
        with self.team.at_work():  # to the end: a pool of torch's, once used, keeps a core busy that others need
            self.team.start(self.tasks)
            try:
                shares[0]()
                for group in self.groups:
                    group.advance()
            finally:
                self.team.wait(self.tasks)
            loss = self.finish()
        return loss.clone()

    def _record(self, x: Tensor, target: Tensor) -> Tensor:
        xs, targets = shares_of(x, self.step.workers), shares_of(target, self.step.workers)
        parameters = self.step.model.parameters()
        names = [name for group in self.groups for name in group.names]
        places: list[Tensor] = []  # where each run of a share's program leaves what the last one takes
        listings: list[Listing] = []
        for x, target, weight in zip(xs, targets, weights_of(xs, self.step.criterion), strict=True):
            place = x.new_empty(sum(parameters[name].numel() for name in names) + 1)
            compute = partial(self._compute_share, x, target, weight, names, place)
            listings.append(self._listed(compute, x, target, wanted=[place])[1])
            places.append(place)
        spare = [listing.block for listing in listings]  # nobody needs it while the last program runs
        loss, last = self._listed(partial(self._finish, names, places), spare=spare)
        self.kept_bytes += sum(place.nbytes for place in places)
        self.shares = [_Share(program_of(listings[0]))]
        self.tasks: list[Task] = []
        for listing, bell in zip(listings[1:], self.team.bells, strict=False):
            ringing = interpreted_program(listing, bell) if IN_ORDER else None
            self.shares.append(_Share(ringing or program_of(listing)))
            self.tasks.append(Task(self.shares[-1], rings=ringing is not None))
        self.finish = _Share(program_of(last))
        return loss.clone()

    def _compute_share(self, x: Tensor, target: Tensor, weight: float, names: list[str], place: Tensor) -> Tensor:
        loss, gradients = self.step.gradients(x, target, weight)
        found = [gradients[name] for name in names]
        for part, gradient in zip(parted(place[:-1], found), found, strict=True):
            part.copy_(gradient)
        return place[-1].copy_(loss)

    def _finish(self, names: list[str], places: Sequence[Tensor]) -> Tensor:
        total = reduce(torch.add, places)
        held = self.step.model.parameters()
        parameters = [held[name] for name in names]
        for parameter, gradient in zip(parameters, parted(total[:-1], parameters), strict=True):
            parameter.grad = gradient
        self._update()
        return total[-1]


class _Share:
    """A program with inputs of its own, for a thread of its own."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.inputs: Sequence[Tensor] = ()
        self._inference = torch.inference_mode()

    def __call__(self) -> Tensor:
        with self._inference:
            return self.program(*self.inputs)


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
