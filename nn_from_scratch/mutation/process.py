"""A worker as the coordinator sees it: a process that has collected the tests and does one job after the other."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.pytest_session import Answer, Collected, JobSession, WorkerJob


class WorkerProcess:
    """One process; it starts at once.

    Args:
        log: file for what pytest and the tests print.
        groups: name and path of each group of tests.

    Attributes:
        connection: the process's answers come over it.
    """

    connection: Connection

    def __init__(
        self, log: Path, groups: Mapping[str, str], functions: Sequence[Function], pytest_args: Sequence[str]
    ) -> None:
        self.log = log
        self._settings = (str(log), dict(groups), list(functions), list(pytest_args))
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._settings))
        # One thread each: a forked process must not inherit a thread pool, and there is a process for every core.
        with pytest.MonkeyPatch.context() as patch:
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
                patch.setenv(name, os.environ.get(name, "1"))
            patch.setenv("PYTHONHASHSEED", "0")
            self._process.start()
        theirs.close()

    def give(self, job: WorkerJob) -> None:
        """Send a job.

        Raises:
            SubjectError: the process is gone.
        """
        try:
            self.connection.send(job)
        except OSError as error:
            raise self.ended() from error

    def ended(self) -> SubjectError:
        """The error for a process that is gone."""
        return SubjectError(f"a process that runs the tests has ended; its last words are in {str(self.log)!r}")

    def receive(self) -> Collected | tuple[Answer, bool] | None:
        """The next message: the collected tests, an answer with whether the process is spent, or None for its end."""
        try:
            found: Collected | tuple[Answer, bool] = self.connection.recv()
        except (EOFError, OSError):
            return None
        return found

    def restart(self) -> None:
        """Replace the process by a fresh one, which will say that it has collected the tests."""
        self.end()
        self._start()

    def end(self) -> None:
        """Stop the process."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(
    connection: Connection, log: str, groups: dict[str, str], functions: list[Function], pytest_args: list[str]
) -> None:
    """The program of a worker: a session of pytest that ends with the connection."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if "" not in sys.path:
        sys.path.insert(0, "")
    pytest.main(_pytest_arguments([*groups.values()], pytest_args), plugins=[JobSession(connection, groups, functions)])


def _pytest_arguments(paths: Sequence[str], extra: Sequence[str]) -> list[str]:
    """One process, one order, nothing written: what other plugins would do differently is switched off."""
    # This worker is part of a package that holds a plugin too, so it is imported before pytest looks at it.
    imported = "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"
    arguments = ["-q", "--tb=native", "-p", "no:cacheprovider", "-W", imported, *(path for path in paths if path)]
    if importlib.util.find_spec("xdist"):
        arguments.append("-n0")
    if importlib.util.find_spec("pytest_randomly"):
        arguments += ["--randomly-dont-reorganize", "--randomly-seed=0"]
    if importlib.util.find_spec("pytest_cov"):
        arguments.append("--no-cov")
    return [*arguments, *extra]
