"""One side of a comparison: a project at a commit, and processes in which its code is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nn_from_scratch.bench import server
from nn_from_scratch.bench.machine import pinned
from nn_from_scratch.errors import SubjectError


@dataclass(frozen=True)
class Side:
    """A project as it is at one commit.

    Attributes:
        name: for messages.
        suite: the file of benchmarks that is run; the head's on every side.
        threads: of torch.
    """

    name: str
    root: Path
    suite: Path
    threads: int = 1

    @contextmanager
    def process(self) -> Iterator[Process]:
        """Context manager that starts a process and ends it."""
        # Both usual layouts of a project; what is installed comes after them.
        path = [str(self.root), str(self.root / "src")]
        environment = pinned(self.threads)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [*path, os.environ.get("PYTHONPATH", "")]))
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            running = subprocess.Popen(
                [sys.executable, server.__file__, str(self.suite)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=self.root,
                env=environment,
            )
            try:
                yield Process(self.name, running, said)
            finally:
                running.kill()
                running.communicate()


class Process:
    """A running process: jobs in, answers out.

    Args:
        side: its name, for messages.
        said: the file that it writes its errors to.
    """

    def __init__(self, side: str, running: subprocess.Popen[str], said: IO[str]) -> None:
        self.side = side
        self._running = running
        self._said = said

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        """Give a job and wait for the answer.

        Raises:
            SubjectError: the job raises, with the message of its own error, or the process is gone.
        """
        assert self._running.stdin is not None and self._running.stdout is not None
        try:
            self._running.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._running.stdin.flush()
            line = self._running.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._running.wait()
            self._said.seek(0)
            said = self._said.read().strip().splitlines()
            raise SubjectError(f"the process of {self.side} ended: {said[-1] if said else 'it said nothing'}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SubjectError(f"on {self.side}: {answer['error']}")
        return answer
