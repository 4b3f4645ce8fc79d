"""A process that measures for one side: it waits for jobs on its standard input and answers on its standard output.

It is run as a file, with the folder of the side's project first on its path, so that the code under measurement is
the side's. The code that measures is that beside this file on both sides, also where the project is this package.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Worker", "take_measuring_code", "work"]

_ROOM = "nn_from_scratch.bench"
_WARM_UP_CALLS, _WARM_UP_SECONDS, _SAMPLE = 3, 0.05, 2e-3


def take_measuring_code(folder: Path) -> ModuleType:
    """Import the room of this folder under its usual name, whichever version of the package the path leads to."""
    spec = importlib.util.spec_from_file_location(
        _ROOM, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    room = importlib.util.module_from_spec(spec)
    sys.modules[_ROOM] = room
    spec.loader.exec_module(room)
    return room


class Worker:
    """What the jobs are done with.

    Args:
        suite: the file of benchmarks; the head's, on both sides.
    """

    def __init__(self, suite: Path) -> None:
        self._suite = suite
        self._setups: dict[str, Any] | None = None
        self._name = ""
        self._function: Callable[[], object] = lambda: None

    def names(self, path: str) -> dict[str, Any]:
        """The names of the benchmarks that this file, perhaps another one than ours, defines here."""
        from nn_from_scratch.bench.suite import load_suite

        return {"names": list(load_suite(Path(path)))}

    def prepare(self, name: str) -> dict[str, Any]:
        """Make a benchmark ready and warm it up; tells how many calls make a sample."""
        from nn_from_scratch.bench.clock import synchronised_clock as clock
        from nn_from_scratch.bench.suite import load_suite

        if self._setups is None:
            self._setups = load_suite(self._suite)
        self._name, self._function = name, self._setups[name]()
        began, done = clock(), 0
        while done < _WARM_UP_CALLS or clock() - began < _WARM_UP_SECONDS:
            self._function()
            done += 1
        start = clock()
        self._function()
        return {"calls": max(1, round(_SAMPLE / max(clock() - start, 1e-9)))}

    def time(self, calls: int) -> dict[str, Any]:
        """Seconds a call, of this many calls."""
        from nn_from_scratch.bench.clock import no_collection
        from nn_from_scratch.bench.clock import synchronised_clock as clock

        function = self._function
        with no_collection():
            # Caches are another process's by now, and its threads may still be spinning.
            function()
            start = clock()
            for _ in range(calls):
                function()
            return {"seconds": (clock() - start) / calls}

    def count(self) -> dict[str, Any]:
        """Exact counts of a call; none for a benchmark that has not imported torch."""
        if "torch" not in sys.modules:
            return {"counts": {}}
        from nn_from_scratch.bench.counts import count

        return {"counts": count(self._function).to_json()}

    def machine(self) -> dict[str, Any]:
        """The machine, as this process sees it after its benchmarks have run."""
        from nn_from_scratch.bench.machine import machine_info

        return {"machine": machine_info()}


def work(suite: Path) -> None:
    """Do jobs until the standard input ends."""
    # What the benchmarks print must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(suite)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = getattr(worker, job.pop("do"))(**job)
        except Exception as error:  # somebody else's code; the other side decides what it means
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != here]  # its modules are no top-level ones
    take_measuring_code(here)
    work(Path(sys.argv[1]))
