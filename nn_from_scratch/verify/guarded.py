"""A subject whose calls look at the clock: the safe points at which a time limit ends a check."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Run, Subject, Values


class GuardedRun:
    """A forward pass of a `GuardedSubject`."""

    def __init__(self, subject: GuardedSubject, run: Run) -> None:
        self._subject, self.run = subject, run

    @property
    def outputs(self) -> Mapping[str, Tensor]:
        return self.run.outputs

    @property
    def handed(self) -> Mapping[str, Tensor]:
        return self.run.handed

    def backward(self, cotangents: Cotangents) -> Gradients:
        with self._subject.guard():
            return self.run.backward(cotangents)

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        with self._subject.guard():
            return self.run.backward_onto(cotangents, held)

    def release(self) -> None:
        self.run.release()


class GuardedSubject:
    """Another subject, each of whose calls begins and ends with a look at the clock.

    Between two calls a check holds nothing of the subject's or of torch's that could be left half done, so that is
    where it stops when its time is up: never within a call.

    Attributes:
        context: The circumstances of the check that is running, with its deadline.
    """

    def __init__(self, subject: Subject, context: CheckContext) -> None:
        self._subject = subject
        self.context = context
        self.name, self.form, self.target, self.notes = subject.name, subject.form, subject.target, subject.notes
        self.operands, self.traits = subject.operands, subject.traits

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Context manager around one call.

        Raises:
            TimeLimitReached: If the time is up at its begin, or at its end.
        """
        self.context.require_time()
        yield
        self.context.require_time()

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        with self.guard():
            return self._subject.forward(values)

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> GuardedRun:
        earlier = _unguarded(beside) if beside is not None else None
        with self.guard():
            return GuardedRun(self, self._subject.run(values, beside=earlier, frozen=frozen))

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        with self.guard():
            return self._subject.backward_together([_unguarded(run) for run in runs], cotangents)

    def rebuilt(self, target: object) -> GuardedSubject:
        return GuardedSubject(self._subject.rebuilt(target), self.context)


def _unguarded(run: Run) -> Run:
    return run.run if isinstance(run, GuardedRun) else run
