"""A worker as the coordinator sees it: start it, give it a job, take its answer, end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import Any

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.mutation.functions import Function

__all__ = ["Worker"]

Answer = dict[str, Any]


class Worker:
    """One process that has collected the tests.

    Args:
        number: tells it from the others.
        functions: that are mutated.
        groups: name and path of each group of tests.
        pytest_args: further arguments of pytest.
        log: file for what it prints.
        answers: where (number, answer) goes; an answer of None says that the process has ended.
    """

    def __init__(
        self,
        number: int,
        *,
        functions: Sequence[Function],
        groups: Mapping[str, str],
        pytest_args: Sequence[str],
        log: Path,
        answers: Queue[tuple[int, Answer | None]],
    ) -> None:
        self.number = number
        self.log = log
        self._settings = {
            "functions": [[f.name, str(f.path), f.qualname, f.line] for f in functions],
            "groups": dict(groups),
            "pytest_args": list(pytest_args),
        }
        self._answers = answers
        self._process: subprocess.Popen[str] | None = None
        self._start()

    def _start(self) -> None:
        # One thread each: a forked process must not inherit a thread pool, and there is a process for every core.
        environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **os.environ, "PYTHONHASHSEED": "0"}
        with self.log.open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "nn_from_scratch.mutation.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        self._process = process
        self.give(self._settings)
        self._listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        self._listener.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._answers.put((self.number, json.loads(line)))
        process.wait()
        if process is self._process:  # else it was ended on purpose, and another is there
            self._answers.put((self.number, None))

    def give(self, job: Answer) -> None:
        """Send a job.

        Raises:
            SubjectError: the process is gone.
        """
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise SubjectError(f"the tests cannot be collected: pytest ended; see {self.log}") from error

    def restart(self) -> None:
        """A fresh process, which will say that it is ready."""
        self.end()
        self._start()

    def end(self) -> None:
        """Stop the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
            self._listener.join()
