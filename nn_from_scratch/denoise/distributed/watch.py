"""Noticing that another process is gone: every rank leaves a sign of life in a common store, and looks at the others'.

A broken connection is noticed at once, but not every death breaks one: a machine may freeze or leave the network, and
a GPU that waits for a peer waits for long. So a thread looks twice a second, whatever the main thread waits for.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence

from nn_from_scratch.denoise.distributed.launch import Launch
from nn_from_scratch.denoise.distributed.meeting import MeetingPlace

__all__ = ["Watch", "names_of"]

PERIOD = 0.5
#: Signs of life that a rank misses while a broken connection is being explained.
_SUSPICIOUS = 2.5
#: Seconds for the main thread to end by itself, with what belongs to that, once a rank is known to be gone.
_GRACE = 5.0
#: torchrun ends a rank that it has asked to end after 30 seconds; the reason must be out by then.
_HURRIED = 8.0
#: Seconds for which the rank that serves the meeting place stays there for the others.
_LINGER = 3.0
_LEFT = "left"


class Watch:
    """The thread that gives signs of life, and looks for those of the others.

    Args:
        launch: of this process.
        place: a connection of its own to where the ranks meet; each key `beat/RANK` and `reported` is there already.
    """

    def __init__(self, launch: Launch, place: MeetingPlace) -> None:
        self.failure: str | None = None
        self._launch = launch
        self._place = place
        self._silence = launch.silence
        self._seen: dict[int, tuple[str, float]] = {}
        self._ended = threading.Event()
        self._wake = threading.Event()
        self._dead: list[int] = []
        self._leaving = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def hurry(self) -> None:
        """Be less patient: this process has been asked to end, perhaps because another has."""
        self._silence = min(self._silence, _HURRIED)

    def leave(self, *, patience: float) -> bool:
        """Say that this rank's work is done, and wait for the others to say so; whether they all have."""
        self._leaving = True
        self._wake.set()
        deadline = time.monotonic() + patience
        while not self._ended.is_set() and time.monotonic() < deadline:
            with self._lock:
                if len(self._seen) == self._launch.size and all(beat == _LEFT for beat, _ in self._seen.values()):
                    break
            time.sleep(0.02)
        else:
            return False
        self._ended.set()
        self._thread.join()
        return True

    def end(self) -> None:
        """Give no more signs of life, and look for none."""
        self._ended.set()
        self._wake.set()

    def explain(self) -> str | None:
        """After a broken connection: who is gone, if that can be told within some seconds."""
        deadline = time.monotonic() + 2 * _SUSPICIOUS
        while time.monotonic() < deadline:
            if self.failure is not None:
                return self.failure
            self._dead = self._silent(_SUSPICIOUS)
            if self._dead:
                return _sentence(self._dead, self._launch.size)
            time.sleep(0.1)
        return None

    def first_to_report(self, *, wait: float) -> bool:
        """Whether this rank is the one that tells the user; each failure is told by one rank.

        Args:
            wait: seconds in which another rank, which knows more, may come first.
        """
        deadline = time.monotonic() + wait
        try:
            while time.monotonic() < deadline:
                if self._place.add("reported", 0):
                    return False
                time.sleep(0.1)
            return self._place.add("reported", 1) == 1
        except RuntimeError:
            return True  # nobody can be asked: better told twice than never

    def part(self) -> None:
        """Leave the place where the ranks meet; the rank that serves it is the last, else the others would miss it."""
        with contextlib.suppress(RuntimeError):
            gone, awaited = self._place.add("gone", 1), self._launch.size - len(self._dead)
            deadline = time.monotonic() + _LINGER
            while self._launch.serves and gone < awaited and time.monotonic() < deadline:
                time.sleep(0.02)
                gone = self._place.add("gone", 0)

    def _watch(self) -> None:
        keys = [f"beat/{rank}" for rank in range(self._launch.size)]
        count = 0
        while not self._ended.is_set():
            count += 1
            try:
                self._place.set(keys[self._launch.rank], _LEFT if self._leaving else str(count))
                *beats, reported = self._place.get([*keys, "reported"])
            except RuntimeError:
                self._fail(
                    "the place where the ranks meet no longer answers (rank 0 or torchrun has ended), so the whole run "
                    "ends: go on from its last checkpoint with train --resume"
                )
                return
            if reported != "0" and not self._ended.is_set():
                self._fail("another rank has failed, and says why")
                return
            now = time.monotonic()
            with self._lock:
                for rank, beat in enumerate(beats):
                    if rank not in self._seen or self._seen[rank][0] != beat:
                        self._seen[rank] = (beat, now)
            silent = self._silent(self._silence)
            if silent:
                self._dead = silent
                self._fail(_sentence(silent, self._launch.size))
                return
            if self._leaving:
                time.sleep(0.02)
            else:
                self._wake.wait(PERIOD)

    def _silent(self, seconds: float) -> list[int]:
        now = time.monotonic()
        with self._lock:
            own = self._seen.get(self._launch.rank, ("", now))[1]
            if now - own > _SUSPICIOUS / 2:  # it is this process that was stopped for a while, or the store
                return []
            seen = sorted(self._seen.items())
        return [rank for rank, (beat, when) in seen if beat != _LEFT and now - when > seconds]

    def _fail(self, sentence: str) -> None:
        """Let the main thread end by itself, and if it does not (it waits for the dead), end the process."""
        self.failure = sentence
        if self._ended.wait(min(_GRACE, self._launch.silence)):
            return
        if self.first_to_report(wait=0.0 if self._launch.rank == 0 else 1.5):
            text = f"nn-from-scratch: error: {sentence}\n"
            with contextlib.suppress(OSError):
                os.write(2, text.encode())
        self.part()
        os._exit(2)


def names_of(ranks: Sequence[int], size: int) -> str:
    """`rank 1 of 4`, or `ranks 1 and 3 of 4`."""
    listed = [str(rank) for rank in ranks]
    text = listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
    return f"rank{'' if len(listed) == 1 else 's'} {text} of {size}"


def _sentence(ranks: Sequence[int], size: int) -> str:
    return (
        f"{names_of(ranks, size)} no longer answer{'s' if len(ranks) == 1 else ''} (killed, crashed or cut off), "
        "so the whole run ends: go on from its last checkpoint with train --resume"
    )
