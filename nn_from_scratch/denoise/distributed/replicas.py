"""The group of processes that train one model together, as one of them sees it.

An exchange with a rank that has ended fails at once, and one with a rank that hangs after the group's time limit. The
ranks that are left then sign in a common store, so that each can name those that did not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nn_from_scratch.denoise.distributed.averaging import average_gradients
from nn_from_scratch.denoise.distributed.launch import Launch
from nn_from_scratch.engine.graph import release_records
from nn_from_scratch.engine.losses import Loss
from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.errors import ReplicaError

#: Seconds for all ranks to be there, once the first is.
_JOINING = 50.0
#: Seconds for every rank that is left to sign, after an exchange has failed.
_SIGNING = 5.0
#: Seconds in which rank 0, which knows what was saved and where, may come first with the reason of an end.
_COURTESY = 1.5
#: Seconds for which the rank that serves the store stays for the questions of the others.
_LINGER = 3.0
_GO_ON = "so the whole run ends: go on from its last checkpoint with train --resume"


class Replicas:
    """The processes of a data-parallel run. Every rank calls the same methods in the same order.

    Attributes:
        rank: of this process; rank 0 leads, writes and prints.
        local_rank: number of this process on its machine.

    Raises:
        ReplicaError: by every method that needs the other ranks: one of them is gone.
    """

    def __init__(self, launch: Launch, store: Any) -> None:
        self.rank = launch.rank
        self.size = launch.size
        self.local_rank = launch.local_rank
        self._serves = launch.serves
        self._store = store
        self._gone: list[int] = []

    def connect(self, device: torch.device) -> None:
        """Choose the device whose gradients are exchanged, by gloo on processors and by NCCL on GPUs."""
        if device.type == "cuda":
            torch.cuda.set_device(device)

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all ranks, in place; the same bits everywhere."""
        self._exchange(lambda: dist.all_reduce(tensor))

    def broadcast(self, content: bytes | None) -> bytes:
        """Give every rank what rank 0 has.

        Args:
            content: the bytes on rank 0; None elsewhere.
        """
        size = torch.tensor([len(content or b"")])
        self._exchange(lambda: dist.broadcast(size, src=0))
        data = torch.empty(int(size), dtype=torch.uint8)
        if content:
            data.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        self._exchange(lambda: dist.broadcast(data, src=0))
        return data.numpy().tobytes()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; the same answer everywhere."""
        total = torch.tensor([int(flag)])
        self.add_up(total)
        return bool(total)

    def steps(
        self, model: Module, optimizer: Optimizer, criterion: Loss, drawn: Iterable[tuple[Tensor, Tensor]]
    ) -> Iterator[Tensor]:
        """Make one step for each batch, of which this rank has its own part, perhaps an empty one.

        Args:
            model: the same on every rank, before and after.
            criterion: the mean over the entries of prediction and target.
            drawn: parts (N, ...) of input and target, N the number of pairs of this rank.

        Yields:
            The sum of the loss over all pairs of the whole batch, of shape (), still on the device.
        """
        optimizer.zero_grad()
        for x, y in drawn:
            loss = None
            if len(x):
                with release_records():
                    loss = criterion(model(x), y)
                    criterion.backward()
            total = average_gradients(model, loss, count=len(x), add_up=self.add_up)
            optimizer.step()
            optimizer.zero_grad()
            yield total

    def agreed(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        """A `stop` for every rank that is true where it is true on any, so that all stop after the same step."""
        return lambda: self.any(stop())

    def close(self) -> None:
        """Wait until every rank has come to its end, and part."""
        self.any(False)
        _disconnect()

    def fail(self) -> bool:
        """Part with an error; whether this rank is the one that tells the user about it."""
        first = True  # where the store no longer answers: better told twice than never
        with contextlib.suppress(RuntimeError):
            if self.rank != 0:
                _poll(lambda: self._count("reported") > 0, patience=_COURTESY)
            first = self._count("reported") == 0 and self._store.add("reported", 1) == 1
            _disconnect()
            self._store.add("parted", 1)
            if self._serves:
                _poll(lambda: self._count("parted") >= self.size - len(self._gone), patience=_LINGER)
        return first

    def _exchange(self, operation: Callable[[], object]) -> None:
        """Do what needs the other ranks, and say who is gone where that fails."""
        try:
            operation()
            return
        except RuntimeError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
        # Outside of the handler: the traceback would keep the connections open.
        raise ReplicaError(self._reason(lines[0]))

    def _reason(self, words: str) -> str:
        _disconnect()  # ranks that wait for this one find out at once
        try:
            if self._count("reported"):
                return "another rank has failed, and says why"
            self._store.set(f"signed/{self.rank}", "")
            self._gone = _missing(self._store, "signed", self.size, patience=_SIGNING)
        except RuntimeError:
            return f"the store in which the ranks meet no longer answers (rank 0 or torchrun has ended), {_GO_ON}"
        if not self._gone:
            return f"the connection between the ranks was lost: {words}"
        verb = "answers" if len(self._gone) == 1 else "answer"
        return f"{_names(self._gone, self.size)} no longer {verb} (killed, crashed, frozen or cut off), {_GO_ON}"

    def _count(self, key: str) -> int:
        return int(self._store.add(key, 0))


def join(launch: Launch) -> Replicas:
    """Meet the other processes that were launched together with this one, and connect each with each.

    Raises:
        ReplicaError: not all of them come within a minute, or the common store cannot be reached.
    """
    where = f"{launch.host}:{launch.port}"
    stores: Any = dist  # torch's own annotations do not export the stores
    patience = timedelta(seconds=_JOINING)
    try:
        server = stores.TCPStore(
            launch.host, launch.port, None, launch.serves, timeout=patience, wait_for_workers=False
        )
        store = stores.PrefixStore(f"nn_from_scratch/{launch.attempt}", server)
        store.set(f"joined/{launch.rank}", "")
        missing = _missing(store, "joined", launch.size, patience=_JOINING)
        if not missing:
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                store=stores.PrefixStore("group", store),
                rank=launch.rank,
                world_size=launch.size,
                timeout=timedelta(seconds=launch.limit),
            )
    except RuntimeError as error:
        words = str(error).strip().splitlines()[0]
        raise ReplicaError(f"the ranks cannot meet at {where} (MASTER_ADDR and MASTER_PORT): {words}") from error
    if missing:
        raise ReplicaError(f"{_names(missing, launch.size)} did not come to {where} within {_JOINING:.0f} s")
    return Replicas(launch, store)


def _disconnect() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _missing(store: Any, key: str, size: int, *, patience: float) -> list[int]:
    """The ranks that have not set the key of their number within some seconds."""

    def absent() -> list[int]:
        return [rank for rank in range(size) if not store.check([f"{key}/{rank}"])]

    _poll(lambda: not absent(), patience=patience)
    return absent()


def _poll(ready: Callable[[], bool], *, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.05)


def _names(ranks: Sequence[int], size: int) -> str:
    """`rank 1 of 4`, or `ranks 1 and 3 of 4`."""
    *others, last = map(str, ranks)
    return f"ranks {', '.join(others)} and {last} of {size}" if others else f"rank {last} of {size}"
