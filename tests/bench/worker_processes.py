"""Tasks in processes that may hang or die: each such task is a result, and not the end of the run."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_READY = "ready for a task"  # What a process sends at its start, and after a task's last result.


@dataclass
class _Worker:
    process: Any
    connection: Connection
    task: Any = None
    ready: bool = False
    deadline: float = float("inf")


def run_in_processes(
    function: Callable[[T], Iterable[R]], tasks: Sequence[T], processes: int, limit: float
) -> Iterator[tuple[T, R | str]]:
    """Each task's results as they come, in no order; a text in place of the rest where its process hung or died.

    Args:
        function: Importable, so that a new process finds it; its results can be pickled.
        processes: How many run at a time.
        limit: Seconds for one task (not for the start of its process), after which its process is ended.
    """
    waiting = list(reversed(tasks))
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.task is not None for worker in workers):
            while waiting and len(workers) < processes:
                workers.append(_start(function))
            soonest = min(worker.deadline for worker in workers)
            timeout = None if soonest == float("inf") else max(0.0, soonest - time.monotonic())
            wait([worker.connection for worker in workers if worker.task is not None or not worker.ready], timeout)
            for worker in tuple(workers):
                if worker.connection.poll():
                    try:
                        result = worker.connection.recv()
                    except (EOFError, OSError):
                        worker.process.join()
                        workers.remove(worker)
                        if not worker.ready:
                            raise RuntimeError("a process died before its first task") from None
                        yield worker.task, f"process died: status {worker.process.exitcode}"
                        continue
                    if result != _READY:
                        yield worker.task, result
                        continue
                    worker.task, worker.ready, worker.deadline = None, True, float("inf")
                elif time.monotonic() > worker.deadline:
                    yield worker.task, f"process hung: no end within {limit:g} s"
                    worker.process.kill()
                    workers.remove(worker)
                if worker.ready and worker.task is None and waiting:
                    worker.task, worker.deadline = waiting.pop(), time.monotonic() + limit
                    worker.connection.send(worker.task)
    finally:
        for worker in workers:
            worker.process.kill()


def _start(function: Callable[[Any], Iterable[Any]]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(function, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(function: Callable[[Any], Iterable[Any]], connection: Connection) -> None:
    while True:
        connection.send(_READY)
        for result in function(connection.recv()):
            connection.send(result)
