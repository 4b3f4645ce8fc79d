"""A whole run: baseline, mutants, workers, results on disk."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import Queue

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.mutation.baseline import Baseline, digest
from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.mutant import Mutant
from nn_from_scratch.mutation.outcome import Outcome, Result
from nn_from_scratch.mutation.process import Answer, Worker
from nn_from_scratch.mutation.results import result_mutants
from nn_from_scratch.mutation.source import source_mutants
from nn_from_scratch.storage import write_atomically

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
        self.baseline = Baseline("", {})
        self._done: dict[tuple[str, str], Result] = {}
        self._kills: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._answers: Queue[tuple[int, Answer | None]] = Queue()
        self._workers: list[Worker] = []

    @property
    def results(self) -> list[Result]:
        """Of each mutant and group, so far."""
        return [*self._done.values()]

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
        if resume:
            baseline = Baseline.load(self.folder, settings=self._settings(), functions=self.functions)
        else:
            sources = {function.name: digest(function.source()) for function in self.functions}
            baseline = Baseline(self._settings(), sources)
            if self.folder.exists():
                shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._workers = [self._worker(number) for number in range(self.jobs)]
        try:
            collected = self._await_ready()
            new = baseline.new_among(collected)
            if new:
                baseline.begin_round()
                self._run_without_mutant(new, baseline, collected)
            baseline.save(self.folder)
            self.baseline = baseline
            for worker in self._workers:
                worker.give({"job": "import", "modules": sorted(baseline.modules)})
            self.mutants = [mutant for mutant in self._make_mutants(baseline) if only(mutant)]
            if resume:
                self._load_results()
            on_start(len(self.mutants), len(baseline.tests))
            self._drain(on_result)
        finally:
            for worker in self._workers:
                worker.end()

    def _settings(self) -> str:
        """A digest of what decides the meaning of a result."""
        return digest(json.dumps([self.groups, self.pytest_args, self.every_group]).encode())

    def _load_results(self) -> None:
        """What is in the folder of these mutants, as far as it is still true."""
        file = self.folder / "results.jsonl"
        content = file.read_bytes() if file.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # a last line that was cut off is done again
            write_atomically(file, whole)
        mutants = {mutant.id: mutant for mutant in self.mutants}
        for line in whole.decode().splitlines():
            values = json.loads(line)
            result = Result(**(values | {"outcome": Outcome(values["outcome"])}))
            if result.mutant in mutants:
                self._done[result.mutant, result.group] = result
        self._done = {key: result for key, result in self._done.items() if self.baseline.holds(result)}
        for result in self._done.values():
            self._kills[mutants[result.mutant].function][result.test] += bool(result.test)

    def _worker(self, number: int) -> Worker:
        return Worker(
            number,
            functions=self.functions,
            groups=self.groups,
            pytest_args=self.pytest_args,
            log=self.folder / f"worker-{number}.log",
            answers=self._answers,
        )

    def _await_ready(self) -> dict[str, str]:
        """Wait for all workers; give the digest of its file for each test."""
        tests: dict[str, str] = {}
        for _ in self._workers:
            number, answer = self._answers.get(timeout=_COLLECTION_SECONDS)
            log = self._workers[number].log
            if answer is None or answer["collection_errors"]:
                raise SubjectError(f"the tests cannot be collected; pytest's own words are in {str(log)!r}")
            if not answer["ready"]:
                raise SubjectError("there are no tests to run: pytest collected none")
            tests = answer["tests"]
        return tests

    def _run_without_mutant(self, tests: Sequence[str], baseline: Baseline, collected: Mapping[str, str]) -> None:
        """What the tests reach, how long they take, and that they pass."""
        for worker in self._workers:
            # Where a group has more tests than others, every worker still gets its part of each.
            worker.give({"job": "baseline", "tests": tests[worker.number :: self.jobs], "limit": 3600.0})
        waiting = {worker.number for worker in self._workers}
        while waiting:
            number, answer = self._answers.get()
            if answer is not None and "ready" in answer:  # a fresh process
                continue
            waiting.discard(number)
            if answer is None or "tests" not in answer:
                why = "" if answer is None else f" ({answer.get('message', '')})"
                raise SubjectError(f"the tests do not run to their end without a mutant{why}")
            if answer.get("spent"):
                self._workers[number].restart()
            baseline.add(answer, collected)

    def _make_mutants(self, baseline: Baseline) -> list[Mutant]:
        mutants = []
        for function in self.functions:
            if self.kind != "result":
                mutants += source_mutants(function)
            if self.kind != "source":
                seen = baseline.seen.get(function.name, {})
                mutants += result_mutants(function, seen, cotangent=function.name in baseline.cotangents)
        return mutants

    def _tests_for(self, mutant: Mutant, group: str, before: Result | None) -> list[str]:
        """The tests of a group that reach a mutant, those first that are likely to notice it soon.

        Args:
            before: what the tests of former rounds made of it, if they were run.
        """
        tests = self.baseline.tests_of(mutant, group, since=0 if before is None else before.round + 1)
        kills = self._kills[mutant.function]

        def promise(test: str) -> float:
            return kills[test] / (self.baseline.tests[test].seconds + 0.01)

        return sorted(tests, key=promise, reverse=True)  # a stable sort: without any promise, quick ones first

    def _drain(self, on_result: Callable[[Result, int, int], None]) -> None:
        done = self._done
        noticed = {result.mutant for result in done.values() if self._counts(result)}
        waiting = [
            (group, mutant)
            for group in self.groups
            for mutant in self.mutants
            if self._is_open(mutant, group, done.get((mutant.id, group))) and self._wanted(mutant, group, noticed)
        ]
        waiting.reverse()
        function_of = {mutant.id: mutant.function for mutant in self.mutants}
        total = len(waiting) + len(done.keys() - {(mutant.id, group) for group, mutant in waiting})
        busy: dict[int, tuple[str, Mutant, float]] = {}
        idle = list(self._workers)
        with (self.folder / "results.jsonl").open("a", encoding="utf-8") as file:

            def note(result: Result) -> None:
                done[result.mutant, result.group] = result
                self._kills[function_of[result.mutant]][result.test] += bool(result.test)
                if self._counts(result):
                    noticed.add(result.mutant)
                file.write(json.dumps(asdict(result)) + "\n")
                file.flush()
                on_result(result, total - len(waiting) - len(busy), total)

            while waiting or busy:
                while waiting and idle:
                    group, mutant = waiting.pop()
                    if not self._wanted(mutant, group, noticed):
                        total -= 1
                        continue
                    tests = self._tests_for(mutant, group, done.get((mutant.id, group)))
                    if not tests:
                        note(Result(mutant.id, group, Outcome.UNREACHED, round=self.baseline.round))
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
                        self.baseline.round,
                    )
                )
                idle.append(worker)

    def _counts(self, result: Result) -> bool:
        return result.outcome.noticed and result.group not in self.beside

    def _is_open(self, mutant: Mutant, group: str, before: Result | None) -> bool:
        """Whether there is no result yet, or none that knows all tests that could notice."""
        return before is None or (not before.outcome.noticed and bool(self._tests_for(mutant, group, before)))

    def _wanted(self, mutant: Mutant, group: str, noticed: set[str]) -> bool:
        return self.every_group or group in self.beside or mutant.id not in noticed

    def _limit_of(self, tests: Sequence[str]) -> float:
        if self.limit is not None:
            return self.limit
        return LIMIT_LEAST + LIMIT_FACTOR * sum(self.baseline.tests[test].seconds for test in tests)

    def _next_answer(self, busy: Mapping[int, tuple[str, Mutant, float]]) -> tuple[int, Answer | None]:
        """The next answer, or for a worker that is past all limits (it could not fork, and hangs) one in its name."""
        number = min(busy, key=lambda n: busy[n][2])
        try:
            return self._answers.get(timeout=max(busy[number][2] - time.perf_counter(), 0.1))
        except Exception:  # queue.Empty
            return number, {"outcome": "timeout", "message": "no result in time", "spent": True}
