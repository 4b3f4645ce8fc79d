"""The pytest session in a worker: collects the tests once, then runs some of them for each job, in a forked process.

Where no process can be forked (on Windows, or once CUDA is in use) a worker does one job in itself and says that it is
spent.
"""

from __future__ import annotations

import gc
import importlib.util
import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import FunctionType

import pytest

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.installation import FunctionWatch, install, live_functions
from nn_from_scratch.mutation.mutant import Mutant, MutantOutcome, MutantResult
from nn_from_scratch.mutation.suite_baseline import Observations, TestRun, digest, text_of_lines

#: Memory that a mutant may take beyond what the process has when it is forked, in bytes: more than any test asks for,
#: while an edit of a size that asks for all that there is fails before the machine is out of it.
SPARE_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Collected:
    """The tests that a worker has collected.

    Attributes:
        tests: by id of each test, the digest of its file.
        errors: number of files that could not be collected.
    """

    tests: Mapping[str, str]
    errors: int


@dataclass(frozen=True)
class WorkerJob:
    """Tests to run in one process: against a mutant until one fails, or without any, under watch.

    Attributes:
        tests: their ids.
        limit: seconds for all of them.
        mutant: None for none.
        group: that the tests belong to; none without a mutant.
    """

    tests: Sequence[str]
    limit: float
    mutant: Mutant | None = None
    group: str = ""


#: The answer to a job. A result stands also for a process without a mutant that did not end by itself; an error says
#: that the sources are no longer those that were mutated.
Answer = Observations | MutantResult | SubjectError


class JobSession:
    """The plugin of a worker.

    Args:
        connection: jobs come over it, and answers go out, each with whether the worker is spent.
        groups: name and path of each group of tests, in order.
        functions: those that are mutated.
    """

    def __init__(self, connection: Connection, groups: Mapping[str, str], functions: Sequence[Function]) -> None:
        self._connection = connection
        self._groups = groups
        self._functions = {function.name: function for function in functions}
        self._files: dict[Path, str] = {}
        self._items: dict[str, pytest.Item] = {}
        self._live: dict[str, list[FunctionType]] = {}
        self._root = Path()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Before the tests are imported, and after the conftest that chooses a profile of hypothesis."""
        hypothesis = sys.modules.get("hypothesis")
        if hypothesis is not None:
            # That a test fails is all that is asked; shrinking the failure would take most of the time.
            phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
            hypothesis.settings.register_profile("nnfs_mutation", hypothesis.settings.default, phases=phases)
            hypothesis.settings.load_profile("nnfs_mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of the usual loop: until the other end is closed."""
        self._root = Path(session.config.invocation_params.dir)
        errors = session.testsfailed
        self._items = {item.nodeid: item for item in session.items}
        # What cannot be imported so, the tests import in another way, or not at all.
        _import_all(sorted({f.module for f in self._functions.values() if not f.module.endswith(".py")}))
        self._live = {name: live_functions(function) for name, function in self._functions.items()}
        self._files = {path: digest(path.read_bytes()) for path in {item.path for item in session.items}}
        self._connection.send(Collected({name: self._files[item.path] for name, item in self._items.items()}, errors))
        with suppress(EOFError):
            while True:
                job: WorkerJob = self._connection.recv()
                spent = not _can_fork()
                self._connection.send((self._work(job) if spent else self._in_a_fork(job), spent))
                if spent:
                    break
        return True

    def _work(self, job: WorkerJob) -> Answer:
        return self._observe(job) if job.mutant is None else self._run_against(job.mutant, job.tests)

    def _observe(self, job: WorkerJob) -> Observations:
        """Run tests without a mutant; which functions does each reach, in which lines, and what do they return?"""
        watch = FunctionWatch()
        for name, live in self._live.items():
            for function in live:
                watch.put_on(function, name)
        found = Observations(seen=watch.seen, cotangents=watch.cotangents)
        for test in job.tests:
            item = self._items[test]
            watch.begin()
            started = time.perf_counter()
            failure = self._run(item)
            seconds = time.perf_counter() - started
            reached = {name: text_of_lines(lines or ()) for name, lines in watch.reached.items()}
            found.tests[test] = TestRun(self._group_of(item), seconds, reached, self._files[item.path])
            if failure:
                found.failures[test] = failure
        return found

    def _run_against(self, mutant: Mutant, tests: Sequence[str]) -> MutantResult | SubjectError:
        """Run tests against a mutant until one kills it."""
        try:
            if not install(mutant, self._functions[mutant.function], self._live[mutant.function]):
                return MutantResult(mutant.id, "", MutantOutcome.UNREACHED)
        except (ArgumentError, SyntaxError) as error:
            return SubjectError(f"the sources changed while their mutants were tested: {error}")
        for test in tests:
            failure = self._run(self._items[test])
            if failure:
                return MutantResult(mutant.id, "", MutantOutcome.KILLED, test, failure)
        return MutantResult(mutant.id, "", MutantOutcome.SURVIVED)

    def _run(self, item: pytest.Item) -> str:
        """Run one test with its fixtures; what it failed with, or "" if it did not."""
        recorder = _FailureRecorder()
        item.config.pluginmanager.register(recorder)
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        finally:
            item.config.pluginmanager.unregister(recorder)
        return recorder.failure

    def _group_of(self, item: pytest.Item) -> str:
        for name, path in self._groups.items():
            file, _, rest = path.partition("::")
            whole = (self._root / file).resolve()
            inside = item.path == whole or whole in item.path.parents
            if inside and (not rest or f"::{rest}" in item.nodeid):
                return name
        return next(iter(self._groups), "")

    def _in_a_fork(self, job: WorkerJob) -> Answer:
        receiving, sending = multiprocessing.Pipe(duplex=False)
        sys.stdout.flush()
        sys.stderr.flush()
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads; this process's own only wait
            child = os.fork()
        if not child:
            receiving.close()
            _be_a_child(self._work, job, sending)
        sending.close()
        with suppress(OSError):
            os.setpgid(child, child)
        answer: Answer = _ended(job, MutantOutcome.TIMEOUT, message=f"no result after {job.limit:.0f} s")
        modules: list[str] = []
        with receiving:
            try:
                if receiving.poll(job.limit):
                    answer, modules = receiving.recv()
            except EOFError:
                answer = _ended(job, MutantOutcome.CRASHED, message="the process ended without a result")
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # also what the tests started and left behind
        os.waitpid(child, 0)
        if modules:
            _import_all(modules)
            gc.collect()
            gc.freeze()  # else the first collection in a forked process writes to, and so copies, every page
        if isinstance(answer, MutantResult):
            answer = replace(answer, seconds=time.perf_counter() - started)
        return answer


class _FailureRecorder:
    """Notes the first failure of a test."""

    def __init__(self) -> None:
        self.failure = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failure:
            crash = getattr(report.longrepr, "reprcrash", None)
            text = crash.message if crash is not None else str(report.longrepr)
            self.failure = (text.strip().splitlines() or [report.when or "failed"])[0][:300] or "failed"


def _ended(job: WorkerJob, outcome: MutantOutcome, *, message: str) -> MutantResult:
    return MutantResult(job.mutant.id if job.mutant is not None else "", "", outcome, message=message)


def _can_be_imported(name: str) -> bool:
    """Whether a module is there under its own name for everybody, and not made or loaded by a test."""
    spec = getattr(sys.modules[name], "__spec__", None)
    if spec is None or spec.name != name or name.split(".")[0] in ("__main__", "conftest"):
        return False
    with suppress(Exception):
        return importlib.util.find_spec(name.split(".")[0]) is not None
    return False


def _import_all(names: Sequence[str]) -> None:
    """Import once what every forked process would import for itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            with suppress(Exception, SystemExit):
                __import__(name)


def _can_fork() -> bool:
    if not hasattr(os, "fork"):
        return False
    torch = sys.modules.get("torch")
    return torch is None or not torch.cuda.is_initialized()


def _be_a_child(work: Callable[[WorkerJob], Answer], job: WorkerJob, sending: Connection) -> None:
    """Work, send the answer and what was imported, and end without the parent's clean-up, which is the parent's."""
    with suppress(OSError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(job.limit) + 1)  # an endless mutant ends also where its parent has been killed
    _limit_memory()
    before = set(sys.modules)
    try:
        answer = work(job)
    except BaseException as error:  # pytest.exit, SystemExit, MemoryError: a mutant may raise anything anywhere
        last = traceback.format_exception_only(type(error), error)[-1].strip()
        answer = _ended(job, MutantOutcome.KILLED, message=f"the session ended with {last}")
    with suppress(Exception):
        sending.send((answer, [name for name in {*sys.modules} - before if _can_be_imported(name)]))
    os._exit(0)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:
        return
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
