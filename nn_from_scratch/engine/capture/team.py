"""Threads that do pieces of work at the same time, again and again."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache, partial
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, TypeVar
from weakref import WeakSet

import torch

from nn_from_scratch.engine.capture.waiting import LINGERING, Bell

T = TypeVar("T")


class Team:
    """The calling thread and others that wait for work; each computes with one thread of torch's own.

    In between they stay awake for about a millisecond, as torch's own threads do: a step of a small network follows the
    other in less.

    Args:
        size: how many, with the calling one.

    Attributes:
        bells: of the others, each rung at the end of a piece of work.
    """

    def __init__(self, size: int) -> None:
        self._others = [_Member() for _ in range(size - 1)]
        self._lock = Lock()
        self.bells = [member.done for member in self._others]
        _teams.add(self)
        self.together([int] * size)  # until all are there, with the one thread that they are to have

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within it, the team is the caller's, who computes with one thread too."""
        with self._lock, single_thread():
            yield

    def end(self) -> None:
        """Let the threads end: one that runs while the interpreter goes away takes the process with it."""
        for member in self._others:
            member.end()

    def begin_anew(self) -> None:
        """In a forked process, which has none of the threads."""
        self._lock = Lock()
        for member in self._others:
            member.begin_anew()

    def start(self, tasks: Sequence[Task]) -> None:
        """Within `at_work`, let the others begin with these, each with one."""
        for member, task in zip(self._others, tasks, strict=False):
            member.give(task)

    def wait(self, tasks: Sequence[Task]) -> None:
        """Until these are done; raises what one of them raised."""
        for member, task in zip(self._others, tasks, strict=False):
            member.wait(task)
        for task in tasks:
            if task.error is not None:
                raise task.error

    def together(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """Do all of it, at most as much as there are members, at the same time, the first here; what each gave.

        All have ended when this returns, or raises what one of them raised.
        """
        tasks = [Task(partial(copy_context().run, work)) for work in works[1:]]
        with self.at_work():
            self.start(tasks)
            try:
                first = works[0]()
            finally:
                self.wait(tasks)
        return [first, *(task.result for task in tasks)]


class Task:
    """A piece of work for another thread, again and again, and what came of it the last time.

    Args:
        work: what is to be done.
        rings: whether it rings the member's bell by itself, as the last thing that anybody waits for.

    Attributes:
        ended: set when all is over.
        result: what it gave, then.
        error: what it raised.
    """

    def __init__(self, work: Callable[[], Any], *, rings: bool = False) -> None:
        self.work = work
        self.rings = rings
        self.ended = Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def do(self) -> None:
        """Do it."""
        try:
            self.result = self.work()
        except BaseException as error:  # it is the caller's
            self.error = error


class _Member:
    """A thread that waits for work: first awake, then asleep.

    The caller may be interrupted anywhere; what it hands over is then done all the same, before anything else.

    Attributes:
        done: rung at the end of each piece of work.
    """

    def __init__(self) -> None:
        self.done = Bell()
        self.begin_anew()

    def begin_anew(self) -> None:
        """As if nothing had been given to it yet; its thread begins with the first task."""
        self._called = Bell()
        self._lock = Lock()
        self._next: Task | None = None
        self._current: Task | None = None
        self._asleep = self._over = False
        self._woken: SimpleQueue[None] = SimpleQueue()
        self._thread: Thread | None = None

    def give(self, task: Task) -> None:
        """Let it do this, after what it may still have to do."""
        if self._thread is None:
            self._thread = Thread(target=self._serve, name="share", daemon=True)
            self._thread.start()
        with self._lock:
            before = self._next or self._current
        if before is not None:  # its ring, if that is still to come, would be taken for one of this task
            before.ended.wait()
        task.ended.clear()
        task.result = task.error = None
        self.done.forget()
        self._hand_over(task)

    def wait(self, task: Task) -> None:
        """Until this is done, which it was given."""
        if not (self.done.wait(lingering=0 if task.rings else LINGERING) and task.rings):
            task.ended.wait()

    def end(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._over = True
            self._hand_over(None)
            self._thread.join()

    def _hand_over(self, task: Task | None) -> None:
        with self._lock:
            if self._asleep:
                self._woken.put(None)
            self._next = task
        self._called.ring()

    def _take(self) -> Task | None:
        with self._lock:
            task, self._next = self._next, None
            self._current = task
            self._asleep = task is None and not self._over
        return task

    def _serve(self) -> None:
        torch.set_num_threads(1)  # of this thread, and so is what follows: shares are computed as steps are
        torch.set_flush_denormal(True)
        while not self._over:
            self._called.wait()
            task = self._take()
            if self._asleep:
                self._woken.get()
                task = self._take()
            if task is not None:
                task.do()
                if not task.rings:
                    self.done.ring()
                task.ended.set()
            self._current = task = None  # keep nothing alive while waiting


@contextmanager
def single_thread() -> Iterator[None]:
    """Within it, torch computes with one thread, here and (MKL's number is one for all) in threads that are told so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def team_of(size: int) -> Team:
    """The team of this size, the same for everybody."""
    return Team(size)


#: All that there are in this process.
_teams: WeakSet[Team] = WeakSet()


@atexit.register
def _end_all() -> None:
    for team in list(_teams):
        team.end()


def _begin_anew() -> None:
    for team in list(_teams):
        team.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
