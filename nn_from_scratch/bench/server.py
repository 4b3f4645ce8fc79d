"""A process that measures one side: it reads jobs from its standard input and answers on its standard output.

It is run as a file, with the folder of the side's project first on its path, so that the code under measurement is
the side's. The code that measures is that beside this file on both sides, also where the project is this package.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


_PACKAGE = "nn_from_scratch.bench"
# Seconds before the first sample, and of one.
_WARM_UP, _SAMPLE = 0.05, 2e-3


def use_measuring_code(folder: Path) -> None:
    """Let `nn_from_scratch.bench` be this folder, whichever version of the package the path leads to."""
    package = ModuleType(_PACKAGE)
    package.__path__ = [str(folder)]
    sys.modules[_PACKAGE] = package


class MeasurementServer:
    """The jobs, one method each.

    Args:
        suite: the file of benchmarks; the head's, on both sides.
    """

    def __init__(self, suite: Path) -> None:
        self._suite = suite
        self._setups: dict[str, Any] | None = None
        self._function: Callable[[], object] = lambda: None

    def names(self, path: str) -> dict[str, Any]:
        """The names of the benchmarks that this file, perhaps not the suite's, defines here."""
        from nn_from_scratch.bench.suite import load_suite

        return {"names": list(load_suite(Path(path)))}

    def prepare(self, name: str) -> dict[str, Any]:
        """Make a benchmark ready and warm it up; gives how many calls make a sample."""
        from nn_from_scratch.bench.machine import synchronized_clock, warm_up
        from nn_from_scratch.bench.suite import load_suite

        if self._setups is None:
            self._setups = load_suite(self._suite)
        self._function = self._setups[name]()
        seconds = warm_up(self._function, synchronized_clock, seconds=_WARM_UP)
        return {"calls": max(1, round(_SAMPLE / max(seconds, 1e-9)))}

    def time(self, calls: int) -> dict[str, Any]:
        """Seconds a call, of this many calls."""
        from nn_from_scratch.bench.machine import no_collection, seconds_per_call, synchronized_clock

        with no_collection():
            self._function()  # caches are another process's by now, and its threads may still be spinning
            return {"seconds": seconds_per_call(self._function, calls, synchronized_clock)}

    def count(self) -> dict[str, Any]:
        """Exact counts of a call; none for a benchmark that has not imported torch."""
        if "torch" not in sys.modules:
            return {"counts": {}}
        from nn_from_scratch.bench.counts import count

        return {"counts": vars(count(self._function))}


def serve(suite: Path) -> None:
    """Do jobs until the standard input ends."""
    # What the benchmarks print must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = MeasurementServer(suite)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = getattr(server, job.pop("do"))(**job)
        except Exception as error:  # user code; the other side decides what it means
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != here]  # its modules are no top-level ones
    use_measuring_code(here)
    serve(Path(sys.argv[1]))
