"""Results that others read between the runs of a program: made where they are wanted, and not copied there."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from nn_from_scratch.engine.capture.liveness import Liveness
from nn_from_scratch.engine.capture.recording import storage_of


def copies_to_spare(
    live: Liveness, movable: Mapping[int, Tensor], wanted: Collection[Tensor]
) -> tuple[dict[int, Tensor], set[int]]:
    """Copies that need not be made, if what is copied is made in the place of the copy.

    Args:
        live: the calls, and what lives how long.
        movable: results that may be made anywhere, by the place of the call.
        wanted: tensors to which the calls copy results, to each entry once, and with which they do nothing else.

    Returns:
        Where results are to be made, by the place of the call that makes them; the places of the copies to leave out.
    """
    memory = {storage_of(x) for x in wanted}
    where: dict[int, Tensor] = {}
    spared: set[int] = set()
    for place, call in live.calls:
        if call.function is not torch.ops.aten.copy_.default or storage_of(call.arguments[0]) not in memory:
            continue
        target, x, *_ = call.arguments
        maker = live.made_at.get(storage_of(x), place)
        if maker in movable and live.last_use[storage_of(x)] == place and _is_as(x, target, movable[maker]):
            made = movable[maker]
            where[maker] = target.as_strided(made.shape, made.stride(), target.storage_offset())
            spared.add(place)
    return where, spared


def _is_as(x: Tensor, target: Tensor, made: Tensor) -> bool:
    """Whether x is all of what was made, and lies as its copy does."""
    whole = x.numel() == made.numel() and x.storage_offset() == made.storage_offset()
    return whole and x.dtype == made.dtype == target.dtype and x.stride() == target.stride() and x.shape == target.shape
