"""Where the processes of a run meet before they are connected: a small store of keys that one process serves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from nn_from_scratch.denoise.distributed.launch import Launch

__all__ = ["MeetingPlace"]


class MeetingPlace:
    """One connection to the common store; a thread that may wait needs a connection of its own.

    Args:
        launch: of this process.
        serves: whether this connection also offers the store.
        patience: seconds to wait for the store, and for what is not there yet.

    Raises:
        RuntimeError: the store cannot be reached; later, from every method: it is gone.
    """

    def __init__(self, launch: Launch, *, serves: bool, patience: float) -> None:
        # torch's own annotations do not export the stores.
        stores: Any = dist
        store = stores.TCPStore(
            launch.host, launch.port, None, serves, timeout=timedelta(seconds=patience), wait_for_workers=False
        )
        self._store = stores.PrefixStore(f"nn_from_scratch/{launch.attempt}", store)
        self.for_group: Any = stores.PrefixStore("group", self._store)

    def set(self, key: str, text: str) -> None:
        """Leave a text."""
        self._store.set(key, text)

    def has(self, key: str) -> bool:
        """Whether there is something."""
        return bool(self._store.check([key]))

    def get(self, keys: Sequence[str]) -> list[str]:
        """The texts, all of which must be there."""
        return [bytes(value).decode() for value in self._store.multi_get(list(keys))]

    def add(self, key: str, amount: int) -> int:
        """Add to a number, at first 0, and give what it is then."""
        return int(self._store.add(key, amount))

    def await_all(self, keys: Sequence[str], *, patience: float) -> None:
        """Wait until all are there."""
        self._store.wait(list(keys), timedelta(seconds=patience))
