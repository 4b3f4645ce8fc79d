"""Which recorded calls matter, which give the same in each run, and how long what they make is needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nn_from_scratch.engine.capture.recording import Call, storage_of


def storages_made(calls: Sequence[Call]) -> dict[int, int]:
    """The storages that were not there before the calls, each with the place of the call that made it."""
    made_at: dict[int, int] = {}
    known: set[int] = set()
    for place, call in enumerate(calls):
        known.update(storage_of(x) for x in call.inputs)
        for key in map(storage_of, call.outputs):
            if key not in known:
                made_at[key] = place
                known.add(key)
    return made_at


class Liveness:
    """What a compiler asks of a list of calls.

    Attributes:
        calls: those that matter, each with its place in the list.
        made_at: for each storage that a call made, the place of that call.
        last_use: for each storage, the place of the last call that reads or writes it; beyond the end for the result.
        constant: the places of calls that give the same whenever they are run.
    """

    def __init__(self, calls: Sequence[Call], result: Tensor) -> None:
        self.made_at = storages_made(calls)
        self.calls = self._needed(calls, result)
        self.last_use: dict[int, int] = {}
        for place, call in self.calls:
            for x in (*call.inputs, *call.outputs):
                self.last_use[storage_of(x)] = place
        self.last_use[storage_of(result)] = len(calls)
        self.constant = self._constant()

    def _needed(self, calls: Sequence[Call], result: Tensor) -> list[tuple[int, Call]]:
        """The calls that the result or a tensor from outside depends on."""
        wanted = {storage_of(result)}
        kept: list[tuple[int, Call]] = []
        for place in range(len(calls) - 1, -1, -1):
            call = calls[place]
            touched = {storage_of(x) for x in (call.written or call.outputs)}
            outside = call.written and any(key not in self.made_at for key in touched)
            if outside or touched & wanted:
                kept.append((place, call))
                wanted |= {storage_of(x) for x in call.inputs}
        return kept[::-1]

    def _constant(self) -> set[int]:
        written = {storage_of(x) for _, call in self.calls for x in call.written}
        steady: set[int] = set()  # storages
        places: set[int] = set()
        for place, call in self.calls:
            keys = {storage_of(y) for y in call.outputs}
            drawn = torch.Tag.nondeterministic_seeded in call.function.tags or call.written
            if not drawn and not keys & written and all(storage_of(x) in steady for x in call.inputs):
                steady |= keys
                places.add(place)
        return places
