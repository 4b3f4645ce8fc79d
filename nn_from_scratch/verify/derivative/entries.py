"""Which entries of a gradient are wrong: the whole numerical gradient, or a sample and bisected directions."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.comparison import ANALYTIC_AND_NUMERIC, Mismatch, compare
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.differences import differentiate, extrapolated, ridders
from nn_from_scratch.verify.derivative.linearization import flatten
from nn_from_scratch.verify.derivative.probes import DirectionalProbe, VariedOperand, directional


@dataclass(frozen=True, kw_only=True)
class EntryGradient:
    """A numerical gradient entry by entry, with the estimated error of each (float64, on the CPU)."""

    value: Tensor
    error: Tensor


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a gradient is wrong.

    Attributes:
        mismatch: The worst entry, and how many differ.
        numeric: The whole numerical gradient, where it was affordable.
        allowed: The largest |difference| that counts as agreement, entry by entry, beside `numeric`.
    """

    mismatch: Mismatch | None
    numeric: Tensor | None = None
    allowed: Tensor | None = None


def entry_gradient(
    varied: VariedOperand, *, start: float, seconds: float = math.inf, entries: Sequence[int] | None = None
) -> EntryGradient | None:
    """Differentiate <v, f> with respect to every entry, one by one.

    Args:
        start: The largest step, relative to the operand's size.
        seconds: How long it may take; decided after a few entries.
        entries: Flat indices to look at instead of all.

    Returns:
        Value and error, of the operand's shape (or one entry for each index); None if it would take too long.
    """
    # Measured along a dense direction: a single entry may move too little to show it.
    noise = DirectionalProbe(varied, varied.direction("noise")).noise(start)
    chosen = list(range(varied.x.numel()) if entries is None else entries)
    began = time.monotonic()
    known = _together(varied, chosen, start, noise, seconds)
    left = [place for place in range(len(chosen)) if place not in known]
    for done, place in enumerate(left):
        if done == constants.TIMED_ENTRIES and (time.monotonic() - began) / done * len(left) > seconds:
            return None
        known[place] = _alone(varied, chosen[place], start, noise)
    pairs = torch.tensor([known[place] for place in range(len(chosen))], dtype=torch.float64).reshape(-1, 2)
    value, error = (pairs / varied.size).T
    shape = varied.x.shape if entries is None else (len(chosen),)
    return EntryGradient(value=value.reshape(shape), error=error.reshape(shape))


def _together(
    varied: VariedOperand, entries: Sequence[int], start: float, noise: float, seconds: float
) -> dict[int, tuple[float, float]]:
    """Derivative and error of those entries that batched tables settle, by their place in the list."""
    known: dict[int, tuple[float, float]] = {}
    samples = batched(varied) if len(entries) >= constants.WORTH_A_BATCH else None
    if samples is None:
        return known
    chunk = max(1, constants.NUMBERS_IN_A_BATCH // max(varied.x.numel(), varied.point.outputs.numel()))
    began = time.monotonic()
    for begin in range(0, len(entries), chunk):
        part = entries[begin : begin + chunk]
        values, errors = _tables(samples.changes(part, start), start, noise)
        found = enumerate(zip(values.tolist(), errors.tolist(), strict=True), begin)
        known.update((place, pair) for place, pair in found if _is_useful(*pair, noise / start))
        if (time.monotonic() - began) / (begin + len(part)) * len(entries) > seconds:
            break
    return known


def _alone(varied: VariedOperand, index: int, start: float, noise: float) -> tuple[float, float]:
    """Derivative and error of one entry, per step of the operand's size; NaN and infinity where nothing settles."""
    probe = DirectionalProbe(varied, varied.single(index))
    found = ridders(probe.change, start, noise)
    if found is None or not found.settled or not _is_useful(found.value, found.error, found.floor):
        found = differentiate(
            probe.change,
            lambda _: noise,
            target=lambda value: constants.ENTRY_TARGET * abs(value),
            finest=probe.finest,
            rounding=noise,
        )
    return (found.value, found.error) if found is not None and found.settled else (math.nan, math.inf)


def _is_useful(value: float, error: float, floor: float) -> bool:
    return error <= constants.USEFUL_ERROR * abs(value) + constants.USEFUL_FLOORS * floor


def locate(varied: VariedOperand, gradient: Tensor | None, *, start: float, seconds: float) -> Location:
    """Find the entries in which a gradient is wrong.

    Args:
        gradient: What the backward returned; None stands for zero. It may have another shape than the operand.
        start: A largest step that suits the function, relative to the operand's size.
        seconds: How long it may take.
    """
    whole = entry_gradient(varied, start=start, seconds=seconds)
    misshapen = gradient is not None and gradient.shape != varied.x.shape
    if whole is None:
        return Location(mismatch=None if misshapen else _searched(varied, gradient, start, seconds))
    known = torch.isfinite(whole.value)
    numeric = torch.where(known, whole.value, 0.0)
    error = torch.where(known, whole.error, math.inf)
    if misshapen:
        return Location(mismatch=None, numeric=numeric, allowed=varied.context.factor * error)
    analytic = torch.zeros_like(numeric) if gradient is None else gradient.detach().to(numeric)
    rounding = varied.gradient_eps * analytic.abs().nan_to_num(0, 0, 0)
    allowed = varied.context.factor * (error + rounding)
    numeric = torch.where(known, numeric, analytic)
    return Location(
        mismatch=compare(analytic, numeric, allowed, sides=ANALYTIC_AND_NUMERIC).mismatch,
        numeric=numeric,
        allowed=allowed,
    )


def _searched(varied: VariedOperand, gradient: Tensor | None, start: float, seconds: float) -> Mismatch | None:
    """The worst entry of a sample, and of those that bisection finds."""
    x, factor = varied.x, varied.context.factor
    total = x.numel()
    flat = torch.zeros(total, dtype=torch.float64)
    if gradient is not None:
        flat = gradient.detach().to("cpu", torch.float64).reshape(-1)
    drawn = torch.randint(
        total, (min(constants.SAMPLED_ENTRIES, total),), generator=varied.context.generator("entries", varied.name)
    )
    sample = sorted(set(drawn.tolist()))
    sampled = entry_gradient(varied, start=start, seconds=seconds, entries=sample)
    hits: list[int] = []
    if sampled is not None:
        allowed = factor * (sampled.error + varied.gradient_eps * flat[sample].abs())
        wrong = ~((flat[sample] - sampled.value).abs() <= allowed) & sampled.value.isfinite()
        hits = [index for index, hit in zip(sample, wrong.tolist(), strict=True) if hit]
    share = len(hits) / len(sample)
    hits = sorted({*hits, *_bisected(varied, gradient, start, seconds)})
    if not hits:
        return None
    found = entry_gradient(varied, start=start, entries=hits)
    assert found is not None
    allowed = factor * (found.error + varied.gradient_eps * flat[hits].abs())
    mismatch = compare(flat[hits], found.value, allowed, sides=ANALYTIC_AND_NUMERIC).mismatch
    if mismatch is None or mismatch.index is None:
        return None
    where = torch.unravel_index(torch.tensor(hits[mismatch.index[0]]), x.shape)
    return replace(
        mismatch,
        index=tuple(int(i) for i in where),
        count=max(round(share * total), mismatch.count or 0),
        total=total,
        counted="sampled" if share * total > len(hits) else "at least",
    )


def _bisected(varied: VariedOperand, gradient: Tensor | None, start: float, seconds: float) -> list[int]:
    """Halve the set of entries that move, following the halves that disagree, the worst first."""
    total = varied.x.numel()
    u = varied.direction("bisection").reshape(-1)
    until = time.monotonic() + seconds

    def excess(low: int, high: int) -> float:
        direction = torch.zeros_like(u)
        direction[low:high] = u[low:high]
        probe = DirectionalProbe(varied, direction.reshape(varied.x.shape))
        found = probe.table(start) or probe.derivative()
        if found is None:
            return 0.0
        analytic, scale = directional(gradient, probe.direction)
        difference = abs(analytic - found.value)
        return difference if difference > varied.context.factor * (found.error + varied.gradient_eps * scale) else 0.0

    hits: list[int] = []
    queue = [(-math.inf, 0, total)]
    for _ in range(constants.MOST_BISECTIONS):
        if not queue or len(hits) >= constants.MOST_ENTRIES_FOUND or time.monotonic() > until:
            break
        _, low, high = heapq.heappop(queue)
        if high - low == 1:
            hits.append(low)
            continue
        middle = (low + high) // 2
        for part in ((low, middle), (middle, high)):
            found = excess(*part)
            if found:
                heapq.heappush(queue, (-found, *part))
    return hits


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

    def changes(self, entries: Sequence[int], start: float) -> Tensor:
        """Δ for each row of a Ridders table, both signs and each entry, given by its flat index."""
        varied, x = self.varied, self.varied.x
        index, copies = torch.as_tensor(entries, device=x.device), torch.arange(len(entries), device=x.device)
        changes = []
        for level in range(constants.BATCHED_TABLE_ROWS):
            for sign in (1, -1):
                varied.context.require_time()
                xs = x.reshape(1, -1).repeat(len(entries), 1)
                xs[copies, index] += sign * start / 2**level * varied.size
                outputs = self.outputs(xs.reshape(len(entries), *x.shape))
                changes.append(torch.mv(outputs - varied.point.outputs, varied.cotangent).cpu())
        return torch.stack(changes).reshape(constants.BATCHED_TABLE_ROWS, 2, -1)


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


def _tables(changes: Tensor, start: float, noise: float) -> tuple[Tensor, Tensor]:
    """Derivatives and errors by `ridders`' method for many entries at once; infinite errors where none settled."""
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
