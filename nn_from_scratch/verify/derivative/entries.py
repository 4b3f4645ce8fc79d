"""Which entries of a gradient are wrong: the whole numerical gradient, or a sample and bisected directions."""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nn_from_scratch.verify.comparison import Mismatch, compare
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.batches import batched, entry_tables
from nn_from_scratch.verify.derivative.differences import Derivative, differentiate, ridders
from nn_from_scratch.verify.derivative.linearization import LinearizationPoint
from nn_from_scratch.verify.derivative.probes import DirectionalProbe, directional, magnitude

__all__ = ["EntryGradient", "Location", "entry_gradient", "locate"]

_ROUNDINGS = 4.0
_SAMPLE = 64
_MOST_FOUND = 32
_MOST_TESTS = 1000
_ESTIMATE_FROM = 8
_USEFUL = 1e-4
_WORTH_A_BATCH = 16


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
    point: LinearizationPoint,
    slot: str,
    context: CheckContext,
    *,
    start: float,
    row: int = 0,
    seconds: float = float("inf"),
    entries: Sequence[int] | None = None,
) -> EntryGradient | None:
    """Differentiate <v, f> with respect to every entry, one by one.

    Args:
        point: Where.
        slot: The tensor.
        context: Gives the deadline.
        start: The largest step, relative to the tensor's magnitude.
        row: Which cotangent.
        seconds: How long it may take; decided after a few entries.
        entries: Flat indices to look at instead of all.

    Returns:
        Value and error, of the tensor's shape (or one entry for each index); None if it would take too long.
    """
    x = point.values[slot]
    size = magnitude(x)
    noise = _noise(point, slot, context, start, row)
    chosen = list(range(x.numel()) if entries is None else entries)
    began = time.monotonic()
    known = _together(point, slot, context, chosen, size, start, noise, row, seconds)
    left = [place for place in range(len(chosen)) if place not in known]
    for done, place in enumerate(left):
        if done == _ESTIMATE_FROM and (time.monotonic() - began) / done * len(left) > seconds:
            return None
        found = _entry(point, slot, context, chosen[place], size, start, row, noise)
        known[place] = (float("nan"), float("inf")) if found is None else (found.value, found.error)
    pairs = torch.tensor([known[place] for place in range(len(chosen))], dtype=torch.float64).reshape(-1, 2) / size
    shape = x.shape if entries is None else (len(chosen),)
    return EntryGradient(value=pairs[:, 0].reshape(shape), error=pairs[:, 1].reshape(shape))


def _together(
    point: LinearizationPoint,
    slot: str,
    context: CheckContext,
    entries: Sequence[int],
    size: float,
    start: float,
    noise: float,
    row: int,
    seconds: float,
) -> dict[int, tuple[float, float]]:
    """Derivative and error of those entries that batched tables settle, by their place in the list."""
    known: dict[int, tuple[float, float]] = {}
    samples = batched(point, slot, context) if len(entries) >= _WORTH_A_BATCH else None
    if samples is None:
        return known
    place = 0
    began = time.monotonic()
    for values, errors in entry_tables(samples, entries, size=size, start=start, noise=noise, row=row, context=context):
        good = errors <= _USEFUL * values.abs() + 10 * noise / start
        for value, error, settled in zip(values.tolist(), errors.tolist(), good.tolist(), strict=True):
            if settled:
                known[place] = (value, error)
            place += 1
        if (time.monotonic() - began) / place * len(entries) > seconds:
            break
    return known


def locate(
    point: LinearizationPoint,
    slot: str,
    gradient: Tensor | None,
    context: CheckContext,
    *,
    start: float,
    row: int = 0,
    seconds: float,
) -> Location:
    """Find the entries in which a gradient is wrong.

    Args:
        point: Where.
        slot: The tensor.
        gradient: What the backward returned; None stands for zero. It may have another shape than the tensor.
        context: Factor, seed and deadline.
        start: A largest step that suits the function, relative to the tensor's magnitude.
        row: Which cotangent.
        seconds: How long it may take.
    """
    x = point.values[slot]
    whole = entry_gradient(point, slot, context, start=start, row=row, seconds=seconds)
    if whole is not None:
        known = torch.isfinite(whole.value)
        numeric = torch.where(known, whole.value, 0.0)
        error = torch.where(known, whole.error, float("inf"))
        if gradient is not None and gradient.shape != x.shape:
            return Location(mismatch=None, numeric=numeric, allowed=context.factor * error)
        analytic = torch.zeros_like(numeric) if gradient is None else gradient.detach().to(numeric)
        allowed = context.factor * (error + _roundings(gradient) * analytic.abs().nan_to_num(0, 0, 0))
        numeric = torch.where(known, numeric, analytic)
        return Location(mismatch=compare(analytic, numeric, allowed).mismatch, numeric=numeric, allowed=allowed)
    if gradient is not None and gradient.shape != x.shape:
        return Location(mismatch=None)
    return Location(mismatch=_searched(point, slot, gradient, context, start, row, seconds))


def _searched(
    point: LinearizationPoint,
    slot: str,
    gradient: Tensor | None,
    context: CheckContext,
    start: float,
    row: int,
    seconds: float,
) -> Mismatch | None:
    x = point.values[slot]
    analytic = torch.zeros(x.shape, dtype=torch.float64) if gradient is None else gradient.detach()
    flat = analytic.to("cpu", torch.float64).reshape(-1)
    total = x.numel()
    generator = context.generator("entries", slot)
    sample = sorted(set(torch.randint(total, (min(_SAMPLE, total),), generator=generator).tolist()))
    sampled = entry_gradient(point, slot, context, start=start, row=row, seconds=seconds, entries=sample)
    hits: list[int] = []
    share = 0.0
    if sampled is not None:
        allowed = context.factor * (sampled.error + _roundings(gradient) * flat[sample].abs())
        wrong = ~((flat[sample] - sampled.value).abs() <= allowed) & sampled.value.isfinite()
        hits = [index for index, hit in zip(sample, wrong.tolist(), strict=True) if hit]
        share = len(hits) / len(sample)
    hits += _bisected(point, slot, gradient, context, start, row, seconds)
    hits = sorted(set(hits))
    if not hits:
        return None
    found = entry_gradient(point, slot, context, start=start, row=row, entries=hits)
    assert found is not None
    allowed = context.factor * (found.error + _roundings(gradient) * flat[hits].abs())
    mismatch = compare(flat[hits], found.value, allowed).mismatch
    if mismatch is None or mismatch.index is None:
        return None
    where = torch.unravel_index(torch.tensor(hits[mismatch.index[0]]), x.shape)
    return Mismatch(
        index=tuple(int(i) for i in where),
        analytic=mismatch.analytic,
        numeric=mismatch.numeric,
        allowed=mismatch.allowed,
        count=max(round(share * total), mismatch.count or 0),
        total=total,
        counted="sampled" if share * total > len(hits) else "at least",
    )


def _bisected(
    point: LinearizationPoint,
    slot: str,
    gradient: Tensor | None,
    context: CheckContext,
    start: float,
    row: int,
    seconds: float,
) -> list[int]:
    """Halve the set of entries that move, following the halves that disagree, the worst first."""
    x = point.values[slot]
    u = context.signed(x.shape, "direction", slot, "bisection", device=x.device) * magnitude(x)
    until = time.monotonic() + seconds

    def excess(low: int, high: int) -> float:
        direction = torch.zeros_like(u).reshape(-1)
        direction[low:high] = u.reshape(-1)[low:high]
        line = DirectionalProbe(point, slot, direction.reshape(x.shape), context)
        found = line.table(row, start) or line.derivative(row, 0.0)
        if found is None:
            return 0.0
        a, scale = directional(gradient, line.direction)
        allowed = context.factor * (found.error + _roundings(gradient) * scale)
        difference = abs(a - found.value)
        return difference if difference > allowed else 0.0

    hits: list[int] = []
    queue = [(-float("inf"), 0, x.numel())]
    for _ in range(_MOST_TESTS):
        if not queue or len(hits) >= _MOST_FOUND or time.monotonic() > until:
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


def _entry(
    point: LinearizationPoint,
    slot: str,
    context: CheckContext,
    index: int,
    size: float,
    start: float,
    row: int,
    noise: float,
) -> Derivative | None:
    x = point.values[slot]
    u = torch.zeros(x.numel(), dtype=torch.float64, device=x.device)
    u[index] = size
    line = DirectionalProbe(point, slot, u.reshape(x.shape), context)
    change = partial(line.change, row)

    found = ridders(change, start, noise)
    if found is not None and found.settled and found.error <= _USEFUL * abs(found.value) + 10 * found.floor:
        return found
    wider = differentiate(
        change,
        lambda _: noise,
        target=lambda value: 1e-8 * abs(value),
        finest=line.finest,
        rounding=noise,
    )
    return wider if wider is not None and wider.settled else None


def _noise(point: LinearizationPoint, slot: str, context: CheckContext, start: float, row: int) -> float:
    """The noise of φ, measured once along a dense direction: a single entry may move too little to show it."""
    x = point.values[slot]
    u = context.signed(x.shape, "direction", slot, "noise", device=x.device) * magnitude(x)
    return DirectionalProbe(point, slot, u, context).noise(row, start)


def _roundings(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else _ROUNDINGS * float(torch.finfo(gradient.dtype).eps)
