"""Many changes of one input in a single forward pass, where the samples of a batch do not see each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.linearization import LinearizationPoint, flatten

__all__ = ["Batched", "batched", "entry_tables"]

_COPIES = 3
_MOVE = 0.1
_NUMBERS = 2_000_000
_LEVELS = 6
_ROUNDING = 2.0**-51
_LOST_IN_NOISE = 8.0
_CONVERGES = 0.7


@dataclass(frozen=True, kw_only=True)
class Batched:
    """A subject that treats dimension 0 of one input as a batch of independent samples.

    Attributes:
        point: The point.
        slot: The input.
        tiled: The other inputs that have a batch dimension too.
    """

    point: LinearizationPoint
    slot: str
    tiled: tuple[str, ...]

    def outputs(self, xs: Tensor) -> Tensor:
        """The outputs, as vectors, for several values of the input.

        Args:
            xs: The values, stacked along a new first dimension K.

        Returns:
            float64, of shape [K, entries of the output].
        """
        copies = xs.shape[0]
        values = dict(self.point.values)
        values[self.slot] = xs.reshape(copies * xs.shape[1], *xs.shape[2:])
        for name in self.tiled:
            values[name] = values[name].repeat(copies, *([1] * (values[name].dim() - 1)))
        outputs = self.point.subject.forward(values)
        parts = [flatten({name: outputs[name]}).reshape(copies, -1) for name in self.point.named_outputs]
        return torch.cat(parts, dim=1)


def batched(point: LinearizationPoint, slot: str, context: CheckContext) -> Batched | None:
    """Find out by trying whether one input can be stacked along its first dimension.

    Args:
        point: The point.
        slot: The tensor.
        context: Seeds the trial.

    Returns:
        None if the tensor is a parameter, has no batch dimension, or samples see each other (as in a batch norm).
    """
    roles = {s.name: s.role for s in point.subject.operands}
    x = point.values[slot]
    if roles[slot] != "input" or x.dim() == 0 or x.numel() == 0 or point.finite is not None:
        return None
    size = x.shape[0]
    if any(y.dim() == 0 or y.shape[0] != size for y in point.named_outputs.values()):
        return None
    others = tuple(
        name
        for name, value in point.values.items()
        if name != slot and roles[name] == "input" and value.dim() and value.shape[0] == size
    )
    moves = (context.signed(x.shape, "batch", slot, k, device=x.device) for k in range(_COPIES))
    trial = torch.stack([x * (1 + _MOVE * k * r).to(x.dtype) for k, r in enumerate(moves)])
    alone = torch.stack([point.at(slot, value) for value in trial])
    if not bool(torch.isfinite(alone).all()):
        return None
    for tiled in dict.fromkeys([others, ()]):
        candidate = Batched(point=point, slot=slot, tiled=tiled)
        try:
            together = candidate.outputs(trial)
        except (SubjectError, KeyError, RuntimeError):
            continue
        if together.shape == alone.shape and bool(((together - alone).abs() <= 16 * point.noise).all()):
            return candidate
    return None


def entry_tables(
    samples: Batched,
    entries: Sequence[int],
    *,
    size: float,
    start: float,
    noise: float,
    row: int,
    context: CheckContext,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Ridders' tables for many entries at once, as `differences.ridders` makes them for one.

    Args:
        samples: The subject.
        entries: Flat indices into the tensor.
        size: The tensor's magnitude; an entry moves by start * size at most.
        start: The largest step.
        noise: The standard error of one value of φ.
        row: Which cotangent.
        context: Gives the deadline.

    Yields:
        Derivative and estimated error per step of `size`, for one chunk of entries after the other. Infinite error
        where a table did not settle.
    """
    point = samples.point
    x = point.values[samples.slot]
    chunk = max(1, _NUMBERS // max(x.numel(), point.outputs.numel()))
    v = point.cotangents[row]
    for begin in range(0, len(entries), chunk):
        index = torch.as_tensor(entries[begin : begin + chunk], device=x.device)
        lines = torch.arange(len(index), device=x.device)
        changes = []
        for level in range(_LEVELS):
            for sign in (1, -1):
                context.require_time()
                xs = x.reshape(1, -1).repeat(len(index), 1)
                xs[lines, index] += sign * start / 2**level * size
                outputs = samples.outputs(xs.reshape(len(index), *x.shape))
                changes.append(torch.mv(outputs - point.outputs, v).cpu())
        yield _tables(torch.stack(changes).reshape(_LEVELS, 2, -1), start, noise)


def _tables(changes: Tensor, start: float, noise: float) -> tuple[Tensor, Tensor]:
    value = torch.zeros_like(changes[0, 0])
    best = torch.full_like(value, math.inf)
    odd: list[Tensor] = []
    even: list[Tensor] = []
    change = torch.full_like(value, math.inf)
    for level, (right, left) in enumerate(changes):
        h = start / 2**level
        new_odd, new_even = [(right - left) / (2 * h)], [(right + left) / (2 * h)]
        floor = (noise + _ROUNDING * torch.maximum(right.abs(), left.abs())) / h
        before, change = change, (new_odd[0] - odd[0]).abs() if odd else torch.full_like(value, math.inf)
        settled = change <= _LOST_IN_NOISE * floor
        if level >= 2:
            settled |= change <= _CONVERGES * before
        for m in range(1, level + 1):
            new_odd.append(new_odd[m - 1] + (new_odd[m - 1] - odd[m - 1]) / (4**m - 1))
            new_even.append(new_even[m - 1] + (new_even[m - 1] - even[m - 1]) / (2 ** (2 * m - 1) - 1))
            spread = torch.maximum((new_odd[m] - new_odd[m - 1]).abs(), (new_odd[m] - odd[m - 1]).abs())
            error = spread + new_even[m].abs() + floor
            better = settled & (error < best)
            value, best = torch.where(better, new_odd[m], value), torch.where(better, error, best)
        odd, even = new_odd, new_even
    return value, best
