"""A whole run of mutation testing: baseline, mutants, workers, results on disk."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.mutant import Mutant, MutantOutcome, MutantResult
from nn_from_scratch.mutation.process import WorkerProcess
from nn_from_scratch.mutation.pytest_session import Collected, WorkerJob
from nn_from_scratch.mutation.result_faults import result_mutants
from nn_from_scratch.mutation.source import source_mutants
from nn_from_scratch.mutation.suite_baseline import Observations, SuiteBaseline, digest
from nn_from_scratch.storage import prepare_folder, read_json_lines

#: Seconds that a mutant may take: so many times what its tests take without it, and these in addition, for a process
#: that has to wait for its turn.
LIMIT_FACTOR, LIMIT_LEAST = 5.0, 20.0
#: Seconds for the collection of the tests, for all tests without a mutant, and for the answer of a worker once the
#: limit of its job is over.
_COLLECTION_SECONDS, _BASELINE_SECONDS, _ANSWER_SECONDS = 600.0, 3600.0, 30.0


@dataclass(eq=False)
class MutationCampaign:
    """Mutants of some functions, and what the tests make of them.

    Args:
        groups: name and path of each group of tests, in the order in which they are tried; a path is a file, a folder
            or "file.py::test", and "" leaves the choice to pytest.
        folder: where results are kept as they come.
        kind: "source", "result" or "both".
        every_group: run each group on each mutant, and do not stop at the first that kills it.
        reference_suites: names of groups that are run on each mutant for comparison, and do not count.
        limit: seconds for one mutant and group; by default from the time that its tests take without it.

    Attributes:
        mutants: those of the last `run`.
    """

    functions: Sequence[Function]
    groups: Mapping[str, str]
    folder: Path
    _: KW_ONLY
    kind: str = "both"
    every_group: bool = False
    reference_suites: Collection[str] = ()
    jobs: int = 1
    limit: float | None = None
    pytest_args: Sequence[str] = ()
    mutants: list[Mutant] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._baseline = SuiteBaseline(
            digest(json.dumps([dict(self.groups), [*self.pytest_args], self.every_group]).encode()),
            {function.name: digest(function.source()) for function in self.functions},
        )
        self._done: dict[tuple[str, str], MutantResult] = {}
        self._kills: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._collected: Mapping[str, str] = {}
        self._workers: list[WorkerProcess] = []
        self._idle: list[WorkerProcess] = []

    @property
    def results(self) -> list[MutantResult]:
        """The results of each mutant and group, so far."""
        return [*self._done.values()]

    def run(
        self,
        *,
        resume: bool = False,
        only: Callable[[Mutant], bool] = lambda mutant: True,
        on_start: Callable[[int, int], None] = lambda mutants, tests: None,
        on_result: Callable[[MutantResult, int, int], None] = lambda result, done, of: None,
    ) -> None:
        """Run the tests without any mutant, and then against every mutant that has no result yet.

        Args:
            resume: go on with what is in the folder; else it is emptied.
            on_start: called with the numbers of mutants and of tests.
            on_result: called with each new result, how many are done, and of how many.

        Raises:
            ArgumentError: there is nothing to resume, or it belongs to other sources or other tests.
            SubjectError: the tests cannot be collected, or fail without any mutant.
        """
        if resume:
            self._baseline = SuiteBaseline.load(self.folder, like=self._baseline)
        else:
            prepare_folder(self.folder, ours=("baseline.json", "results.jsonl", "worker-*.log"))
        try:
            for number in range(self.jobs):
                log = self.folder / f"worker-{number}.log"
                self._workers.append(WorkerProcess(log, self.groups, self.functions, self.pytest_args))
            self._distribute(self._baseline_jobs(), self._add_to_baseline)
            self._baseline.save(self.folder)
            self.mutants = [mutant for mutant in self._make_mutants() if only(mutant)]
            if resume:
                self._load_results()
            on_start(len(self.mutants), len(self._baseline.tests))
            self._run_against_mutants(on_result)
        finally:
            for worker in self._workers:
                worker.end()

    def _distribute(
        self, jobs: Iterator[WorkerJob], on_answer: Callable[[WorkerJob, Observations | MutantResult], None]
    ) -> None:
        """Give jobs to workers, each drawn when a worker is ready, until all have answers."""
        busy: dict[WorkerProcess, tuple[WorkerJob, float]] = {}  # with the time at which an answer is overdue
        exhausted = False
        while busy or not exhausted:
            if self._idle and not exhausted:
                job = next(jobs, None)
                exhausted = job is None
                if job is not None:
                    worker = self._idle.pop()
                    worker.give(job)
                    busy[worker] = job, time.perf_counter() + job.limit + _ANSWER_SECONDS
                continue
            now = time.perf_counter()
            overdue = min((time for _, time in busy.values()), default=now + _COLLECTION_SECONDS)
            ready = wait([worker.connection for worker in self._workers], max(overdue - now, 0.1))
            if not ready and not busy:
                raise SubjectError(f"the tests cannot be collected within {_COLLECTION_SECONDS:.0f} s")
            if ready:
                worker = next(worker for worker in self._workers if worker.connection is ready[0])
                message = worker.receive()
            else:  # it hangs, because it could not fork
                worker = min(busy, key=lambda each: busy[each][1])
                message = MutantResult("", "", MutantOutcome.TIMEOUT, message="no result in time"), True
            if isinstance(message, Collected):
                self._welcome(worker, message)
                continue
            if worker not in busy:
                raise worker.ended()
            job, _ = busy.pop(worker)
            crashed = MutantResult("", "", MutantOutcome.CRASHED, message="the worker ended")
            answer, spent = message if message is not None else (crashed, True)
            if isinstance(answer, SubjectError):
                raise answer
            if spent:
                worker.restart()
            else:
                self._idle.append(worker)
            on_answer(job, answer)

    def _welcome(self, worker: WorkerProcess, message: Collected) -> None:
        """Take in that a fresh worker has collected the tests."""
        if message.errors:
            raise SubjectError(f"the tests cannot be collected; pytest's own words are in {str(worker.log)!r}")
        if not message.tests:
            raise SubjectError("there are no tests to run: pytest collected none")
        self._collected = message.tests
        self._idle.append(worker)

    def _baseline_jobs(self) -> Iterator[WorkerJob]:
        """Jobs that run new tests without a mutant."""
        new = self._baseline.new_among(self._collected)
        if new:
            self._baseline.begin_round()
        # Where a group has more tests than others, every worker still gets its part of each.
        shares = [new[number :: self.jobs] for number in range(self.jobs)]
        yield from (WorkerJob(share, _BASELINE_SECONDS) for share in shares if share)

    def _add_to_baseline(self, job: WorkerJob, answer: Observations | MutantResult) -> None:
        if isinstance(answer, MutantResult):
            raise SubjectError(f"the tests do not run to their end without a mutant ({answer.message})")
        self._baseline.add(answer)

    def _make_mutants(self) -> list[Mutant]:
        mutants = []
        for function in self.functions:
            if self.kind != "result":
                mutants += source_mutants(function)
            if self.kind != "source":
                seen = self._baseline.seen.get(function.name, {})
                mutants += result_mutants(function, seen, cotangent=function.name in self._baseline.cotangents)
        return mutants

    def _load_results(self) -> None:
        """Take up the results in the folder that are about these mutants and still true."""
        function_of = {mutant.id: mutant.function for mutant in self.mutants}
        for values in read_json_lines(self.folder / "results.jsonl"):
            result = MutantResult(**(values | {"outcome": MutantOutcome(values["outcome"])}))
            if result.mutant in function_of:
                self._done[result.mutant, result.group] = result
        self._done = {key: result for key, result in self._done.items() if self._baseline.holds(result)}
        for result in self._done.values():
            self._kills[function_of[result.mutant]][result.test] += bool(result.test)

    def _run_against_mutants(self, on_result: Callable[[MutantResult, int, int], None]) -> None:
        done = self._done
        killed = {result.mutant for result in done.values() if self._counts(result)}
        waiting = deque(
            (group, mutant)
            for group in self.groups
            for mutant in self.mutants
            if self._is_open(mutant, group, done.get((mutant.id, group))) and self._wanted(mutant, group, killed)
        )
        answered = len(done.keys() - {(mutant.id, group) for group, mutant in waiting})
        running = 0
        with (self.folder / "results.jsonl").open("a", encoding="utf-8") as file:

            def note(mutant: Mutant, group: str, result: MutantResult) -> None:
                nonlocal answered
                answered += 1
                result = replace(result, mutant=mutant.id, group=group, round=self._baseline.round)
                done[mutant.id, group] = result
                self._kills[mutant.function][result.test] += bool(result.test)
                if self._counts(result):
                    killed.add(mutant.id)
                file.write(json.dumps(asdict(result)) + "\n")
                file.flush()
                on_result(result, answered, answered + running + len(waiting))

            def jobs() -> Iterator[WorkerJob]:
                nonlocal running
                while waiting:
                    group, mutant = waiting.popleft()
                    tests = self._tests_for(mutant, group, done.get((mutant.id, group)))
                    if not self._wanted(mutant, group, killed):
                        continue
                    if tests:
                        running += 1
                        yield WorkerJob(tests, self._limit_of(tests), mutant, group)
                    else:
                        note(mutant, group, MutantResult("", "", MutantOutcome.UNREACHED))

            def on_answer(job: WorkerJob, answer: Observations | MutantResult) -> None:
                nonlocal running
                running -= 1
                assert job.mutant is not None and isinstance(answer, MutantResult)
                note(job.mutant, job.group, answer)

            self._distribute(jobs(), on_answer)

    def _tests_for(self, mutant: Mutant, group: str, before: MutantResult | None) -> list[str]:
        """The tests of a group that reach a mutant, those first that are likely to kill it soon.

        Args:
            before: what the tests of former rounds made of it, if they were run.
        """
        tests = self._baseline.tests_of(mutant, group, since=0 if before is None else before.round + 1)
        kills = self._kills[mutant.function]

        def promise(test: str) -> float:
            return kills[test] / (self._baseline.tests[test].seconds + 0.01)

        return sorted(tests, key=promise, reverse=True)  # a stable sort: without any promise, quick ones first

    def _counts(self, result: MutantResult) -> bool:
        return result.outcome.killed and result.group not in self.reference_suites

    def _is_open(self, mutant: Mutant, group: str, before: MutantResult | None) -> bool:
        """Whether there is no result yet, or none of all tests that could kill it."""
        return before is None or (not before.outcome.killed and bool(self._tests_for(mutant, group, before)))

    def _wanted(self, mutant: Mutant, group: str, killed: set[str]) -> bool:
        return self.every_group or group in self.reference_suites or mutant.id not in killed

    def _limit_of(self, tests: Sequence[str]) -> float:
        if self.limit is not None:
            return self.limit
        return LIMIT_LEAST + LIMIT_FACTOR * sum(self._baseline.tests[test].seconds for test in tests)
