"""A machine that only a test has: its clock goes as fast as its noise says, and a run costs no time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nn_from_scratch.errors import SubjectError


@dataclass
class Machine:
    """What shared machines do: they drift by a fifth, jump to another speed, jitter, and are interrupted.

    Attributes:
        seed: of the noise.
        jitter: standard deviation of the logarithm of each duration.
        between: the same from one process to the next.
    """

    seed: int
    jitter: float = 0.05
    between: float = 0.01
    now: float = 0.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.period = self.draw.uniform(0.5, 5.0)

    def clock(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        if self.draw.random() < 0.01:
            self.speed = self.draw.uniform(0.7, 1.4)  # another tenant has come or gone
        drift = self.speed * (1 + 0.2 * math.sin(self.now / self.period))
        spike = 3.0 if self.draw.random() < 0.02 else 1.0
        self.now += seconds * drift * spike * math.exp(self.draw.gauss(0, self.jitter))

    def function(self, seconds: float) -> Callable[[], None]:
        return lambda: self.work(seconds)


@dataclass
class SimulatedSide:
    """A side whose benchmarks take these seconds a call, on a simulated machine.

    Attributes:
        seconds: a call, by benchmark; a text is the error that preparing it raises.
        counts: of every benchmark.
    """

    machine: Machine
    seconds: Mapping[str, float | str]
    counts: Mapping[str, int | None] = field(
        default_factory=lambda: {"operators": 7, "launches": None, "peak_bytes": 100}
    )
    started: list[str] = field(default_factory=list)
    name: str = ""

    @contextmanager
    def process(self) -> Iterator[SimulatedProcess]:
        self.started.append(self.name)
        self.machine.now += 2.0  # to start
        yield SimulatedProcess(self, math.exp(self.machine.draw.gauss(0, self.machine.between)))


@dataclass
class SimulatedProcess:
    side: SimulatedSide
    factor: float
    prepared: str = ""

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        machine = self.side.machine
        if do == "prepare":
            self.prepared = arguments["name"]
            seconds = self.side.seconds[self.prepared]
            if isinstance(seconds, str):
                raise SubjectError(seconds)
            return {"calls": max(1, round(2e-3 / seconds))}
        if do == "count":
            return {"counts": dict(self.side.counts)}
        assert do == "time"
        seconds = self.side.seconds[self.prepared]
        assert isinstance(seconds, float)
        start = machine.now
        machine.work(seconds * self.factor * arguments["calls"])
        return {"seconds": (machine.now - start) / arguments["calls"]}
