"""The group of processes that train one model together, as one of them sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from nn_from_scratch.denoise.distributed.averaging import average_gradients
from nn_from_scratch.denoise.distributed.launch import Launch
from nn_from_scratch.denoise.distributed.meeting import MeetingPlace
from nn_from_scratch.denoise.distributed.watch import Watch, names_of
from nn_from_scratch.engine.graph import release_records
from nn_from_scratch.engine.losses import Loss
from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.errors import ReplicaError

__all__ = ["Replicas", "join"]

#: Seconds for all ranks to be there, once the first is.
_JOINING = 50.0
#: Seconds for one exchange. Ranks may wait long for one that loads data; whether that one lives is the watch's affair.
_EXCHANGE = 1800.0


class Replicas:
    """The processes of a data-parallel run. Every rank calls the same methods in the same order.

    Args:
        launch: of this process.
        place: where the ranks meet; every rank is there.
        watch: that is running.

    Attributes:
        rank: of this process; rank 0 leads, writes and prints.
        size: number of processes.
    """

    def __init__(self, launch: Launch, place: MeetingPlace, watch: Watch) -> None:
        self.rank = launch.rank
        self.size = launch.size
        self.local_rank = launch.local_rank
        self.device = torch.device("cpu")
        self._place = place
        self._watch = watch

    # ---- before there is a connection from each to each

    def tell(self, key: str, text: str) -> None:
        """Leave a text for the other ranks.

        Raises:
            ReplicaError: the common store is gone.
        """
        with self._talking():
            self._place.set(f"text/{key}", text)

    def hear(self, key: str) -> str:
        """The text that another rank leaves, as soon as it is there.

        Raises:
            ReplicaError: a rank is gone.
        """
        with self._talking():
            while not self._place.has(f"text/{key}"):
                if self._watch.failure is not None:
                    raise ReplicaError(self._watch.failure)
                time.sleep(0.05)
            return self._place.get([f"text/{key}"])[0]

    def connect(self, device: torch.device) -> None:
        """Connect the ranks, by gloo on processors and by NCCL on GPUs.

        Raises:
            ReplicaError: a rank is gone.
        """
        self.device = device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with self._talking():
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=self._place.for_group,
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=_EXCHANGE),
                device_id=device if device.type == "cuda" else None,
            )

    # ---- between connect and close

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all ranks, in place; the same bits everywhere.

        Raises:
            ReplicaError: a rank is gone.
        """
        with self._talking():
            dist.all_reduce(tensor)

    def broadcast(self, content: bytes | None) -> bytes:
        """Give every rank what rank 0 has.

        Args:
            content: on rank 0 what it has; elsewhere None.

        Raises:
            ReplicaError: a rank is gone.
        """
        size = torch.tensor([len(content or b"")], device=self.device)
        with self._talking():
            dist.broadcast(size, src=0)
            data = torch.empty(int(size), dtype=torch.uint8, device=self.device)
            if content:
                data.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
            dist.broadcast(data, src=0)
            return data.cpu().numpy().tobytes()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; the same answer everywhere.

        Raises:
            ReplicaError: a rank is gone.
        """
        total = torch.tensor([int(flag)], device=self.device)
        self.add_up(total)
        return bool(total)

    def steps(
        self, model: Module, optimizer: Optimizer, criterion: Loss, drawn: Iterable[tuple[Tensor, Tensor]]
    ) -> Iterator[Tensor]:
        """Make one step for each batch, of which this rank has its own part, perhaps an empty one.

        Args:
            model: the same on every rank, before and after.
            optimizer: of this model.
            criterion: the mean over the entries of prediction and target.
            drawn: parts (N, ...) of input and target, N the number of pairs of this rank.

        Yields:
            The sum of the loss over all pairs of the whole batch, of shape (), still on the device.

        Raises:
            ReplicaError: a rank is gone.
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

    # ---- the end

    def hurry(self) -> None:
        """This process has been asked to end, perhaps because another has: find out soon."""
        self._watch.hurry()

    def close(self) -> None:
        """Wait until every rank has come to its end, and part.

        Raises:
            ReplicaError: a rank has not.
        """
        if not self._watch.leave(patience=_JOINING):
            raise ReplicaError(self._watch.failure or f"not every rank has come to its end within {_JOINING:.0f} s")
        if dist.is_initialized():
            dist.destroy_process_group()
        self._watch.part()

    def fail(self) -> bool:
        """Part with an error; whether this rank is the one that tells the user about it."""
        # Rank 0 comes first if it has failed too, because it knows what was saved and where.
        first = self._watch.first_to_report(wait=0.0 if self.rank == 0 else 1.5)
        self._watch.end()
        self._watch.part()
        return first

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except ReplicaError:
            raise
        except RuntimeError as error:
            known = self._watch.explain()
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise ReplicaError(known or f"the connection between the ranks was lost: {words[0]}") from error


def join(launch: Launch) -> Replicas:
    """Meet the other processes that were launched together with this one.

    Raises:
        ReplicaError: not all of them come within a minute, or the place to meet cannot be reached.
    """
    where = f"{launch.host}:{launch.port}"
    keys = [f"beat/{rank}" for rank in range(launch.size)]
    try:
        place = MeetingPlace(launch, serves=launch.serves, patience=_JOINING)
        watched = MeetingPlace(launch, serves=False, patience=_JOINING)
        place.add("reported", 0)
        place.set(keys[launch.rank], "0")
    except RuntimeError as error:
        words = str(error).strip().splitlines()[0]
        raise ReplicaError(f"the ranks cannot meet at {where} (MASTER_ADDR and MASTER_PORT): {words}") from error
    try:
        place.await_all(keys, patience=_JOINING)
    except RuntimeError as error:
        missing = [rank for rank, key in enumerate(keys) if not place.has(key)]
        raise ReplicaError(
            f"{names_of(missing or [0], launch.size)} did not come to {where} within {_JOINING:.0f} s"
        ) from error
    return Replicas(launch, place, Watch(launch, watched))
