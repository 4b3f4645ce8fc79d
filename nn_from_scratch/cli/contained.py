"""Foreign code in a process of its own: what it does to its process does not decide what this one says.

A target may end its process with status 0, on purpose or not, fork, or hang while it is imported. So it is verified in
a child, and an answer counts only if it arrived whole, signed with a key that is drawn for this one child.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import multiprocessing
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

from nn_from_scratch.errors import NNFromScratchError, SubjectError, os_error_text

#: Seconds after which somebody who waits is told what is being done.
PATIENCE = 5.0
#: Seconds beyond its limit that a step has for ending by itself, before its process is ended.
GRACE = 20.0


@dataclass(frozen=True)
class Answer:
    """What the child has to say.

    Attributes:
        status: the exit status.
        text: for the standard output.
        error: the sentence of an error; empty for none.
    """

    status: int
    text: str = ""
    error: str = ""


class OverdueError(SubjectError):
    """The child did not come to an end, or not to the next step, in time."""


#: Called by the child with what it does next, as in "importing subject.py".
OnStep = Callable[[str], None]


def run_contained(work: Callable[[OnStep], Answer], *, limit: float) -> Answer:
    """Do the work in a child process, and give its answer; all processes that the child has made end with it.

    Args:
        work: gets a function to call with the name of each step.
        limit: seconds that a step may take.

    Raises:
        OverdueError: a step took longer.
        SubjectError: the child ended, or was ended, without an answer.
    """
    key = secrets.token_bytes(32)
    # Where there is no fork, the work must be picklable. With one, nothing is imported a second time.
    context: Any = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    sys.stdout.flush()
    sys.stderr.flush()
    child = context.Process(target=_serve, args=(work, theirs, key), daemon=False)
    child.start()
    theirs.close()
    try:
        return _receive(ours, key, limit=limit, status=lambda: _status_of(child))
    finally:
        _end(child)


def _serve(work: Callable[[OnStep], Answer], connection: Connection, key: bytes) -> None:
    if hasattr(os, "setsid"):
        os.setsid()  # a group of its own, which can be ended as a whole
    process = os.getpid()
    try:
        answer = work(lambda step: connection.send_bytes(b"step" + step.encode()))
    except NNFromScratchError as error:
        answer = Answer(2, error=str(error))
    except OSError as error:
        answer = Answer(2, error=os_error_text(error))
    except BaseException as error:
        answer = Answer(2, error=f"{type(error).__name__}: {error}")
    if os.getpid() == process:  # not in a copy that the target has made by forking
        payload = json.dumps(asdict(answer)).encode()
        connection.send_bytes(b"done" + hmac.digest(key, payload, hashlib.sha256) + payload)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(0)  # without the target's own last wishes, and without waiting for its threads


def _receive(connection: Connection, key: bytes, *, limit: float, status: Callable[[], str]) -> Answer:
    step, began, told = "starting", time.monotonic(), False
    while True:
        waited = time.monotonic() - began
        if waited > limit + GRACE:
            raise OverdueError(f"{step} did not end within the time limit of {limit:g} s")
        if waited > PATIENCE and not told:
            told = True
            sys.stderr.write(f"nn-from-scratch: still {step} (at most {limit:g} s)\n")
            sys.stderr.flush()
        if not connection.poll(min(limit + GRACE, PATIENCE) / 10):
            continue
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            raise SubjectError(f"the process that verified the target ended {status()} while {step}") from None
        kind, content = message[:4], message[4:]
        size = hashlib.sha256().digest_size
        if kind == b"step":
            step, began, told = content.decode(errors="replace"), time.monotonic(), False
        elif kind == b"done" and hmac.compare_digest(hmac.digest(key, content[size:], hashlib.sha256), content[:size]):
            return Answer(**json.loads(content[size:]))
        else:
            raise SubjectError(f"the process that verified the target sent something else than a report while {step}")


def _status_of(child: multiprocessing.process.BaseProcess) -> str:
    child.join(GRACE)
    code = child.exitcode
    if code is None:
        return "its answer"
    return f"with exit status {code}" if code >= 0 else f"by {signal.Signals(-code).name}"


def _end(child: multiprocessing.process.BaseProcess) -> None:
    """End the child with all that it has started."""
    if hasattr(os, "killpg") and child.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.join()
