"""A batch shared among threads: each computes the gradients of its samples, and their sum makes one step.

The operators of a small network are too short for several threads to help each other with; two threads that go through
the whole step, each with its own half of the batch, hardly wait for one another. torch lets go of the interpreter while
an operator runs. What a step computes does not depend on whether the shares are computed at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache, partial, reduce
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

import torch
from torch import Tensor

from nn_from_scratch import layers, losses
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.losses import Loss
from nn_from_scratch.module import Module, Sequential

T = TypeVar("T")

#: What treats every sample by itself and draws no numbers, so that shares can be computed apart; subclasses may not.
_SAMPLEWISE: frozenset[type[Module]] = frozenset(
    {
        Sequential,
        *(getattr(layers, name) for name in ("Conv2d", "TransposeConv2d", "Linear", "AvgPool2d", "MaxPool2d")),
        *(getattr(layers, name) for name in ("ReLU", "LeakyReLU", "Sigmoid", "Tanh", "SiLU", "GELU")),
        *(getattr(layers, name) for name in ("PixelShuffle", "Upsample", "GroupNorm", "LayerNorm", "Add")),
    }
)
_ENTRYWISE: frozenset[type[Loss]] = frozenset({losses.MSE, losses.L1, losses.Huber})


def expect_shareable(model: Module, criterion: Loss) -> None:
    """Refuse a model or a loss whose result for a batch is not made of those for its parts.

    Raises:
        ArgumentError: a module may look at several samples at once, or draws numbers.
    """
    for module in [*model.all_modules(), criterion]:
        if type(module) not in _SAMPLEWISE | _ENTRYWISE:
            raise ArgumentError(
                f"several workers share a batch, but {type(module).__name__} is not known to treat each sample by "
                "itself; use workers=1"
            )
    if criterion.reduction == "none":
        raise ArgumentError(f"criterion is {criterion!r}, but a step needs one loss; use reduction 'mean' or 'sum'")


def shares_of(x: Tensor, workers: int) -> tuple[Tensor, ...]:
    """The samples in as many parts as there are workers, or fewer where there are fewer samples; views."""
    return x.tensor_split(max(1, min(workers, len(x))))


def weights_of(shares: Sequence[Tensor], criterion: Loss) -> list[float]:
    """How much the loss of each share counts in that of the batch."""
    count = sum(map(len, shares))
    return [len(share) / count if criterion.reduction == "mean" else 1.0 for share in shares]


def added_up(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """For each place the sum over the shares, in their order; new tensors."""
    return reduce(lambda one, other: list(torch._foreach_add(one, other)), map(list, parts))


class Team:
    """The calling thread and others that wait for work; each computes with one thread of torch's own.

    An executor's futures take 60 microseconds to hand over work and result, these queues 17: it is done in each step.

    Args:
        size: how many, with the calling one.
    """

    def __init__(self, size: int) -> None:
        self._others: list[SimpleQueue[_Work]] = [SimpleQueue() for _ in range(size - 1)]
        self._lock = Lock()
        for queue in self._others:
            Thread(target=_serve, args=(queue,), name="share", daemon=True).start()
        self.together([int] * size)  # until all are there, with the one thread that they are to have

    def together(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """Do all of it, at most as much as there are members, at the same time, the first here; what each gave.

        All have ended when this returns, or raises what one of them raised.
        """
        with self._lock, single_thread():
            replies: list[SimpleQueue[_Outcome]] = []
            for queue, work in zip(self._others[: len(works) - 1], works[1:], strict=True):
                replies.append(SimpleQueue())  # a new one: an interrupt leaves no reply for later
                queue.put((partial(copy_context().run, work), replies[-1]))
            try:
                first = works[0]()
            finally:
                outcomes = [reply.get() for reply in replies]
        errors = [error for _, error in outcomes if error is not None]
        if errors:
            raise errors[0]
        return [first, *(result for result, _ in outcomes)]


#: What a piece of work gave, and what it raised.
_Outcome = tuple[Any, "BaseException | None"]
_Work = tuple[Callable[[], Any], "SimpleQueue[_Outcome]"]


def _serve(queue: SimpleQueue[_Work]) -> None:
    torch.set_num_threads(1)  # of this thread
    while True:
        work, reply = queue.get()
        try:
            reply.put((work(), None))
        except BaseException as error:  # it is the caller's
            reply.put((None, error))
        del work, reply  # keep nothing alive while waiting


@contextmanager
def single_thread() -> Iterator[None]:
    """Within it, torch computes with one thread, here and (MKL's number is one for all) in threads that are told so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def team_of(size: int) -> Team:
    """The team of this size, the same for everybody."""
    return Team(size)


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=team_of.cache_clear)
