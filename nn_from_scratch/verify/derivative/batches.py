"""Many changes of one input in a single forward pass, where the samples of a batch do not see each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.differences import extrapolated
from nn_from_scratch.verify.derivative.linearization import flatten
from nn_from_scratch.verify.derivative.probes import VariedOperand

__all__ = ["Batched", "batched", "entry_tables"]


@dataclass(frozen=True, kw_only=True)
class Batched:
    """A subject that treats dimension 0 of one input as a batch of independent samples.

    Attributes:
        varied: The input.
        tiled: The other inputs that have a batch dimension too.
    """

    varied: VariedOperand
    tiled: tuple[str, ...]

    def outputs(self, xs: Tensor) -> Tensor:
        """The outputs, [K, entries of the output] in float64, for K values of the input stacked in `xs`."""
        copies = xs.shape[0]
        point = self.varied.point
        values = {**point.values, self.varied.name: xs.reshape(copies * xs.shape[1], *xs.shape[2:])}
        for name in self.tiled:
            values[name] = values[name].repeat(copies, *([1] * (values[name].dim() - 1)))
        outputs = point.subject.forward(values)
        return torch.cat([flatten({n: outputs[n]}).reshape(copies, -1) for n in point.named_outputs], dim=1)


def batched(varied: VariedOperand) -> Batched | None:
    """Find out by trying whether one input can be stacked along its first dimension.

    None if the operand is a parameter, has no batch dimension, or samples see each other (as in a batch norm).
    """
    point, x = varied.point, varied.x
    if varied.operand.role != "input" or x.dim() == 0 or x.numel() == 0 or point.finite is not None:
        return None
    size = x.shape[0]
    if any(y.dim() == 0 or y.shape[0] != size for y in point.named_outputs.values()):
        return None
    inputs = [operand.name for operand in point.subject.operands if operand.role == "input"]
    others = tuple(
        name for name in inputs if name != varied.name and point.values[name].shape[:1] == torch.Size([size])
    )
    moves = (varied.draw("batch", k) for k in range(constants.TRIAL_COPIES))
    trial = torch.stack([x * (1 + constants.TRIAL_MOVE * k * r).to(x.dtype) for k, r in enumerate(moves)])
    alone = torch.stack([varied.outputs(value) for value in trial])
    if not bool(torch.isfinite(alone).all()):
        return None
    for tiled in dict.fromkeys([others, ()]):
        candidate = Batched(varied=varied, tiled=tiled)
        try:
            together = candidate.outputs(trial)
        except (SubjectError, KeyError, RuntimeError):
            continue
        same = together.shape == alone.shape
        if same and bool(((together - alone).abs() <= constants.TRIAL_ROUNDINGS * point.noise).all()):
            return candidate
    return None


def entry_tables(
    samples: Batched, entries: Sequence[int], *, start: float, noise: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Ridders' tables for many entries at once, as `differences.ridders` makes them for one.

    Yields:
        Derivative and estimated error per step of the operand's size, for one chunk of entries after the other.
        Infinite error where a table did not settle.
    """
    varied = samples.varied
    x, y = varied.x, varied.point.outputs
    chunk = max(1, constants.NUMBERS_IN_A_BATCH // max(x.numel(), y.numel()))
    for begin in range(0, len(entries), chunk):
        index = torch.as_tensor(entries[begin : begin + chunk], device=x.device)
        copies = torch.arange(len(index), device=x.device)
        changes = []
        for level in range(constants.BATCHED_TABLE_ROWS):
            for sign in (1, -1):
                varied.context.require_time()
                xs = x.reshape(1, -1).repeat(len(index), 1)
                xs[copies, index] += sign * start / 2**level * varied.size
                outputs = samples.outputs(xs.reshape(len(index), *x.shape))
                changes.append(torch.mv(outputs - y, varied.cotangent).cpu())
        yield _tables(torch.stack(changes).reshape(constants.BATCHED_TABLE_ROWS, 2, -1), start, noise)


def _tables(changes: Tensor, start: float, noise: float) -> tuple[Tensor, Tensor]:
    value = torch.zeros_like(changes[0, 0])
    best = torch.full_like(value, math.inf)
    row: list[Tensor] = []
    even: list[Tensor] = []
    change = torch.full_like(value, math.inf)
    for level, (right, left) in enumerate(changes):
        h = start / 2**level
        above, row = row, extrapolated((right - left) / (2 * h), row, odd=False)
        even = extrapolated((right + left) / (2 * h), even, odd=True)
        floor = (noise + constants.DIFFERENCE_ROUNDING * torch.maximum(right.abs(), left.abs())) / h
        before, change = change, (row[0] - above[0]).abs() if above else change
        settled = change <= constants.LOST_IN_NOISE * floor
        if level >= 2:
            settled |= change <= constants.CONVERGES * before
        for m in range(1, level + 1):
            spread = torch.maximum((row[m] - row[m - 1]).abs(), (row[m] - above[m - 1]).abs())
            error = spread + even[m].abs() + floor
            better = settled & (error < best)
            value, best = torch.where(better, row[m], value), torch.where(better, error, best)
    return value, best
