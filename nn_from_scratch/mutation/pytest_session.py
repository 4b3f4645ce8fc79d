"""The pytest session in a worker: collects the tests once, then runs some of them for each job, in a forked process.

A job is a line of JSON that comes in, and a line of JSON that goes out. Where no process can be forked (on Windows, or
once CUDA is in use) a worker does one job in itself and says that it is spent.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import IO, Any

import pytest

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.mutation.baseline import digest, text_of_lines
from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.installation import install, live_functions
from nn_from_scratch.mutation.mutant import Mutant
from nn_from_scratch.mutation.watching import Watch

__all__ = ["Session"]

Answer = dict[str, Any]
#: What a mutant may take beyond what the process has when it is forked, in bytes; an edit of a size can ask for more.
SPARE_BYTES = 8 * 2**30


class Session:
    """The plugin of a worker.

    Args:
        jobs: where they are read from.
        answers: where they are written to.
        groups: name and path of each group of tests, in order.
        functions: that are mutated.
        modules: to import before anything is forked, so that the functions are there.
    """

    def __init__(
        self,
        jobs: IO[str],
        answers: IO[str],
        *,
        groups: dict[str, str],
        functions: list[Function],
        modules: list[str],
    ) -> None:
        self._jobs = jobs
        self._answers = answers
        self._groups = groups
        self._functions = {function.name: function for function in functions}
        self._modules = modules
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
        """In place of the usual loop: until there is no job."""
        self._root = Path(session.config.invocation_params.dir)
        errors = session.testsfailed
        self._items = {item.nodeid: item for item in session.items}
        _import_all(self._modules)  # what cannot be imported so, the tests import in another way, or not at all
        self._live = {name: live_functions(function) for name, function in self._functions.items()}
        files = {path: digest(path.read_bytes()) for path in {item.path for item in session.items}}
        tests = {name: files[item.path] for name, item in self._items.items()}
        self._say({"ready": len(self._items), "collection_errors": errors, "tests": tests})
        for line in self._jobs:
            job = json.loads(line)
            if job["job"] == "import":
                _import_all(job["modules"])
                gc.collect()
                gc.freeze()  # else the first collection in a forked process writes to, and so copies, every page
                continue
            work = self._baseline if job["job"] == "baseline" else self._mutant
            if _can_fork():
                self._say(self._in_a_fork(partial(work, job), limit=job["limit"]))
                continue
            self._say({**work(job), "spent": True})
            break
        return True

    def _say(self, answer: Answer) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()

    def _baseline(self, job: Answer) -> Answer:
        """Run tests without a mutant; which functions does each reach, in which lines, and what do they return?"""
        watch = Watch()
        for name in self._functions:
            for live in self._live[name]:
                watch.put_on(live, name)
        before = set(sys.modules)
        tests: dict[str, Answer] = {}
        for test in job["tests"]:
            item = self._items[test]
            watch.begin()
            started = time.perf_counter()
            failed = self._run(item)
            tests[test] = {
                "group": self._group_of(item),
                "seconds": time.perf_counter() - started,
                "functions": {name: text_of_lines(lines or ()) for name, lines in watch.reached.items()},
                "failed": failed,
            }
        imported = [name for name in set(sys.modules) - before if _can_be_imported(name)]
        return {
            "tests": tests,
            "seen": {
                name: {p: [list(o.shape), o.floating] for p, o in seen.items()} for name, seen in watch.seen.items()
            },
            "cotangents": sorted(watch.cotangents),
            "modules": sorted(imported),
        }

    def _mutant(self, job: Answer) -> Answer:
        """Run tests against a mutant until one notices."""
        mutant = Mutant(**job["mutant"])
        try:
            if not install(mutant, self._functions[mutant.function], self._live[mutant.function]):
                return {"outcome": "unreached"}
        except (ArgumentError, SyntaxError) as error:
            return {"refused": str(error)}
        for test in job["tests"]:
            failed = self._run(self._items[test])
            if failed:
                return {"outcome": "killed", "test": test, "message": failed}
        return {"outcome": "survived"}

    def _run(self, item: pytest.Item) -> str:
        """Run one test with its fixtures; what it failed with, or "" if it did not."""
        watcher = _Watcher()
        item.config.pluginmanager.register(watcher)
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        finally:
            item.config.pluginmanager.unregister(watcher)
        return watcher.failed

    def _group_of(self, item: pytest.Item) -> str:
        for name, path in self._groups.items():
            file, _, rest = path.partition("::")
            whole = (self._root / file).resolve()
            inside = item.path == whole or whole in item.path.parents
            if inside and (not rest or f"::{rest}" in item.nodeid):
                return name
        return next(iter(self._groups), "")

    def _in_a_fork(self, work: Callable[[], Answer], *, limit: float) -> Answer:
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads; this process's own only wait
            child = os.fork()
        if not child:
            os.close(reading)
            _be_a_child(work, writing)
        os.close(writing)
        with suppress(OSError):
            os.setpgid(child, child)
        text, late = _read_all(reading, deadline=started + limit)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # also what the tests started and left behind
        os.waitpid(child, 0)
        seconds = time.perf_counter() - started
        if late:
            return {"outcome": "timeout", "message": f"no result after {limit:.0f} s", "seconds": seconds}
        if not text:
            return {"outcome": "crashed", "message": "the process ended without a result", "seconds": seconds}
        answer: Answer = json.loads(text)
        return {**answer, "seconds": seconds}


class _Watcher:
    """Notes the first failure of a test."""

    def __init__(self) -> None:
        self.failed = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            text = crash.message if crash is not None else str(report.longrepr)
            self.failed = (text.strip().splitlines() or [report.when or "failed"])[0][:300] or "failed"


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


def _be_a_child(work: Callable[[], Answer], writing: int) -> None:
    """Work, send the answer, and end without the parent's clean-up, which is the parent's."""
    with suppress(OSError):
        os.setpgid(0, 0)
    _limit_memory()
    try:
        answer = work()
    except BaseException as error:  # pytest.exit, SystemExit, MemoryError: a mutant may raise anything anywhere
        last = traceback.format_exception_only(type(error), error)[-1].strip()
        answer = {"outcome": "killed", "test": "", "message": f"the session ended with {last}"}
    content = json.dumps(answer).encode()
    with suppress(OSError):
        while content:
            content = content[os.write(writing, content) :]
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


def _read_all(descriptor: int, *, deadline: float) -> tuple[str, bool]:
    """All that is written until the other end is closed; and whether the time was up before."""
    parts: list[bytes] = []
    with _closing(descriptor):
        while True:
            left = deadline - time.perf_counter()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                return "", True
            part = os.read(descriptor, 2**16)
            if not part:
                return b"".join(parts).decode(), False
            parts.append(part)


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)
