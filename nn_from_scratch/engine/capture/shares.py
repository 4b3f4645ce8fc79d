"""A batch shared among threads: each computes the gradients of its samples, and their sum makes one step.

The operators of a small network are too short for several threads to help each other with; two threads that go through
the whole step, each with its own half of the batch, hardly wait for one another. torch lets go of the interpreter while
an operator runs. What a step computes does not depend on whether the shares are computed at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from nn_from_scratch.engine import layers, losses
from nn_from_scratch.engine.losses import Loss
from nn_from_scratch.engine.module import Module, Sequential
from nn_from_scratch.errors import ArgumentError

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
