"""A whole run: baseline, mutants, workers, results on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import Queue
from typing import Any

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.mutant import Mutant
from nn_from_scratch.mutation.outcome import Outcome, Result
from nn_from_scratch.mutation.process import Answer, Worker
from nn_from_scratch.mutation.results import Observation, result_mutants
from nn_from_scratch.mutation.source import source_mutants
from nn_from_scratch.storage import write_json

__all__ = ["Campaign"]

#: How long a mutant may take, from what its tests take without it; the additions are for a process that waits.
LIMIT_FACTOR, LIMIT_LEAST = 5.0, 20.0
_COLLECTION_SECONDS = 600.0


class Campaign:
    """Mutants of some functions, and what the tests make of them.

    Args:
        functions: to be mutated.
        groups: name and path of each group of tests, in the order in which they are tried; a path is a file, a folder
            or "file.py::test", and "" leaves the choice to pytest.
        folder: where results are kept as they come.
        kind: "source", "result" or "both".
        every_group: run each group on each mutant, and do not stop at the first that notices.
        beside: names of groups that are run on each mutant for comparison, and whose notice does not count.
        jobs: worker processes.
        limit: seconds for one mutant and group; by default from the time that its tests take without it.
        pytest_args: further arguments of pytest.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        groups: Mapping[str, str],
        folder: Path,
        *,
        kind: str = "both",
        every_group: bool = False,
        beside: Sequence[str] = (),
        jobs: int = 1,
        limit: float | None = None,
        pytest_args: Sequence[str] = (),
    ) -> None:
        self.functions = list(functions)
        self.groups = dict(groups)
        self.folder = folder
        self.kind = kind
        self.every_group = every_group
        self.beside = frozenset(beside)
        self.jobs = jobs
        self.limit = limit
        self.pytest_args = list(pytest_args)
        self.mutants: list[Mutant] = []
        self.results: list[Result] = []
        self.tests: dict[str, Answer] = {}
        self._answers: Queue[tuple[int, Answer | None]] = Queue()
        self._workers: list[Worker] = []

    def run(
        self,
        *,
        resume: bool = False,
        only: Callable[[Mutant], bool] = lambda mutant: True,
        on_start: Callable[[int, int], None] = lambda mutants, tests: None,
        on_result: Callable[[Result, int, int], None] = lambda result, done, of: None,
    ) -> None:
        """Do all that is not done yet.

        Args:
            resume: go on with what is in the folder; else it is emptied.
            only: whether a mutant is wanted.
            on_start: called with the numbers of mutants and of tests.
            on_result: called with each new result, how many are done, and of how many.

        Raises:
            ArgumentError: there is nothing to resume, or it belongs to other sources or other tests.
            SubjectError: the tests cannot be collected, or fail without any mutant.
        """
        started = self._load() if resume else {}
        if not resume and self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._workers = [self._worker(number) for number in range(self.jobs)]
        try:
            self._await_ready()
            if not started:
                started = self._baseline()
                write_json(self.folder / "baseline.json", {"fingerprint": self.fingerprint(), **started})
            self.tests = started["tests"]
            for worker in self._workers:
                worker.give({"job": "import", "modules": started["modules"]})
            self.mutants = [mutant for mutant in self._make_mutants(started) if only(mutant)]
            on_start(len(self.mutants), len(self.tests))
            self._drain(on_result)
        finally:
            for worker in self._workers:
                worker.end()

    def fingerprint(self) -> str:
        """Of the sources that are mutated and of the settings that decide what a result means."""
        digest = hashlib.sha256()
        for path in sorted({function.path for function in self.functions}):
            digest.update(path.read_bytes())
        names = [function.name for function in self.functions]
        digest.update(json.dumps([names, self.groups, self.pytest_args, self.every_group]).encode())
        return digest.hexdigest()[:16]

    def _load(self) -> Answer:
        path = self.folder / "baseline.json"
        if not path.is_file():
            raise ArgumentError(f"{str(self.folder)!r} holds no run to resume; leave out --resume to start one")
        started: Answer = json.loads(path.read_text(encoding="utf-8"))
        if started["fingerprint"] != self.fingerprint():
            raise ArgumentError(
                f"{str(self.folder)!r} holds a run over other sources, targets or tests; leave out --resume to start "
                "anew"
            )
        file = self.folder / "results.jsonl"
        for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if file.is_file() else ():
            if line.endswith("\n"):  # a last line that was cut off is done again
                values = json.loads(line)
                self.results.append(Result(**(values | {"outcome": Outcome(values["outcome"])})))
        return started

    def _worker(self, number: int) -> Worker:
        return Worker(
            number,
            functions=self.functions,
            groups=self.groups,
            pytest_args=self.pytest_args,
            log=self.folder / f"worker-{number}.log",
            answers=self._answers,
        )

    def _await_ready(self) -> None:
        for _ in self._workers:
            number, answer = self._answers.get(timeout=_COLLECTION_SECONDS)
            log = self._workers[number].log
            if answer is None or answer["collection_errors"]:
                raise SubjectError(f"the tests cannot be collected; pytest's own words are in {str(log)!r}")
            if not answer["ready"]:
                raise SubjectError("there are no tests to run: pytest collected none")

    def _baseline(self) -> Answer:
        """All tests once, without a mutant: what each reaches, how long it takes, and that it passes."""
        for worker in self._workers:
            worker.give({"job": "baseline", "share": worker.number, "of": len(self._workers), "limit": 3600.0})
        tests: dict[str, Answer] = {}
        seen: dict[str, dict[str, list[Any]]] = {}
        cotangents: set[str] = set()
        modules: set[str] = set()
        for _ in self._workers:
            number, answer = self._answers.get()
            if answer is None or "tests" not in answer:
                why = "" if answer is None else f" ({answer.get('message', '')})"
                raise SubjectError(f"the tests do not run to their end without a mutant{why}")
            if answer.get("spent"):
                self._workers[number].restart()
            tests |= answer["tests"]
            cotangents |= set(answer["cotangents"])
            modules |= set(answer["modules"])
            for name, places in answer["seen"].items():
                for place, (shape, floating) in places.items():
                    old = seen.setdefault(name, {}).get(place)
                    if old is None or Observation(tuple(old[0]), True).rank < Observation(tuple(shape), True).rank:
                        seen[name][place] = [shape, floating]
        failing = [f"{test}: {values['failed']}" for test, values in tests.items() if values["failed"]]
        if failing:
            raise SubjectError(f"{len(failing)} tests fail without any mutant, the first is {failing[0]}")
        return {"tests": tests, "seen": seen, "cotangents": sorted(cotangents), "modules": sorted(modules)}

    def _make_mutants(self, started: Answer) -> list[Mutant]:
        mutants = []
        for function in self.functions:
            if self.kind != "result":
                mutants += source_mutants(function)
            if self.kind != "source":
                seen = {
                    place: Observation(tuple(shape), floating)
                    for place, (shape, floating) in started["seen"].get(function.name, {}).items()
                }
                mutants += result_mutants(function, seen, cotangent=function.name in started["cotangents"])
        return mutants

    def _tests_of(self, mutant: Mutant, group: str) -> list[str]:
        """Those of the group that reach the function, quick ones first."""
        reaching = [
            (values["seconds"], test)
            for test, values in self.tests.items()
            if values["group"] == group and mutant.function in values["functions"]
        ]
        return [test for _, test in sorted(reaching)]

    def _drain(self, on_result: Callable[[Result, int, int], None]) -> None:
        done = {(result.mutant, result.group): result for result in self.results}
        noticed = {result.mutant for result in self.results if self._counts(result)}
        waiting = [
            (group, mutant)
            for group in self.groups
            for mutant in self.mutants
            if (mutant.id, group) not in done and self._wanted(mutant, group, noticed)
        ]
        waiting.reverse()
        total = len(waiting) + len(done)
        busy: dict[int, tuple[str, Mutant, float]] = {}
        idle = list(self._workers)
        with (self.folder / "results.jsonl").open("a", encoding="utf-8") as file:

            def note(result: Result) -> None:
                self.results.append(result)
                if self._counts(result):
                    noticed.add(result.mutant)
                file.write(json.dumps(asdict(result)) + "\n")
                file.flush()
                on_result(result, len(self.results), total)

            while waiting or busy:
                while waiting and idle:
                    group, mutant = waiting.pop()
                    if not self._wanted(mutant, group, noticed):
                        total -= 1
                        continue
                    tests = self._tests_of(mutant, group)
                    if not tests:
                        note(Result(mutant.id, group, Outcome.UNREACHED))
                        continue
                    worker, limit = idle.pop(), self._limit_of(tests)
                    worker.give({"job": "mutant", "mutant": mutant.to_json(), "tests": tests, "limit": limit})
                    busy[worker.number] = (group, mutant, time.perf_counter() + limit + 30)
                if not busy:
                    continue
                number, answer = self._next_answer(busy)
                if answer is not None and "ready" in answer:  # a fresh process
                    continue
                group, mutant, _ = busy.pop(number)
                worker = self._workers[number]
                if answer is None or answer.get("spent"):
                    worker.restart()
                if answer is not None and "refused" in answer:
                    raise SubjectError(f"the sources changed while their mutants were tested: {answer['refused']}")
                answer = answer or {"outcome": "crashed", "message": "the worker ended"}
                note(
                    Result(
                        mutant.id,
                        group,
                        Outcome(answer["outcome"]),
                        answer.get("test", ""),
                        answer.get("message", ""),
                        answer.get("seconds", 0.0),
                    )
                )
                idle.append(worker)

    def _counts(self, result: Result) -> bool:
        return result.outcome.noticed and result.group not in self.beside

    def _wanted(self, mutant: Mutant, group: str, noticed: set[str]) -> bool:
        return self.every_group or group in self.beside or mutant.id not in noticed

    def _limit_of(self, tests: Sequence[str]) -> float:
        if self.limit is not None:
            return self.limit
        return LIMIT_LEAST + LIMIT_FACTOR * sum(float(self.tests[test]["seconds"]) for test in tests)

    def _next_answer(self, busy: Mapping[int, tuple[str, Mutant, float]]) -> tuple[int, Answer | None]:
        """The next answer, or for a worker that is past all limits (it could not fork, and hangs) one in its name."""
        number = min(busy, key=lambda n: busy[n][2])
        try:
            return self._answers.get(timeout=max(busy[number][2] - time.perf_counter(), 0.1))
        except Exception:  # queue.Empty
            return number, {"outcome": "timeout", "message": "no result in time", "spent": True}
