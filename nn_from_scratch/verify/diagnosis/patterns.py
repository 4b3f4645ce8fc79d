"""Which entries of a tensor form a describable region: a set of indices along each axis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["IndexSet", "bounding_sets", "describe", "product_mask"]


@dataclass(frozen=True)
class IndexSet:
    """A named set of indices along one axis.

    Attributes:
        axis: The axis.
        pattern: first, last, not-first, not-last, edges, interior, phase, not-phase, single or some.
        words: How a sentence calls it.
        members: The set itself (bool, one for each index).
    """

    axis: int
    pattern: str
    words: str
    members: Tensor


def bounding_sets(mask: Tensor) -> list[Tensor]:
    """For each axis, which indices occur in the mask (bool, one vector for each axis)."""
    return [
        mask.any(dim=tuple(a for a in range(mask.dim()) if a != axis)) if mask.dim() > 1 else mask
        for axis in range(mask.dim())
    ]


def product_mask(sets: list[Tensor]) -> Tensor:
    """The entries whose index is in the set of every axis."""
    mask = torch.ones(tuple(len(members) for members in sets), dtype=torch.bool)
    for axis, members in enumerate(sets):
        shape = [1] * len(sets)
        shape[axis] = len(members)
        mask &= members.reshape(shape)
    return mask


def describe(axis: int, name: str, members: Tensor) -> IndexSet | None:
    """Name a set of indices that is neither empty nor everything; None if it has no simple description."""
    size, indices = len(members), members.nonzero().flatten().tolist()
    if not 0 < len(indices) < size:
        return None
    found = _pattern(size, indices)
    return None if found is None else IndexSet(axis, found[0], f"{found[1]} along {name}", members)


def _pattern(size: int, indices: list[int]) -> tuple[str, str] | None:
    count = len(indices)
    if indices == list(range(count)):
        if count == size - 1 and size > 2:
            return "not-last", "all but the last place"
        return "first", f"the first {_places(count)}"
    if indices == list(range(size - count, size)):
        if count == size - 1 and size > 2:
            return "not-first", "all but the first place"
        return "last", f"the last {_places(count)}"
    if count == 1:
        return "single", f"place {indices[0]}"
    if indices == list(range(indices[0], size - indices[0])):
        return "interior", f"all but the {_places(indices[0])} at each end"
    rest = sorted(set(range(size)) - set(indices))
    if rest == list(range(rest[0], size - rest[0])):
        # Of three places, the first and the last are also every second one.
        return ("some", "places 0 and 2") if size == 3 else ("edges", f"the {_places(rest[0])} at each end")
    for step in range(2, size // 2 + 1):
        for phase in range(step):
            every = list(range(phase, size, step))
            if indices == every:
                return "phase", f"every place that is {phase} mod {step}"
            if rest == every:
                return "not-phase", f"all places but those that are {phase} mod {step}"
    if indices == list(range(indices[0], indices[-1] + 1)):
        return "some", f"places {indices[0]} to {indices[-1]}"
    return None


def _places(count: int) -> str:
    return "place" if count == 1 else f"{count} places"
