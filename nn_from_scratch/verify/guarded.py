"""What stands between every check and its subject.

Each call looks at the clock, which gives the safe points at which a time limit ends a check; each draws the same random
numbers; and what comes back can be calculated with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Literal

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext, stable_seed
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Run, Subject, Values
from nn_from_scratch.verify.randomness import RandomSource
from nn_from_scratch.verify.subjects.complex_pairs import PairsRun
from nn_from_scratch.verify.subjects.structure import CALCULATED, unusual

Stage = Literal["forward", "backward"]


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
        with self._subject.guard("backward"):
            return self._subject.ordinary(self.run.backward(cotangents))

    def backward_onto(self, cotangents: Cotangents, held: Gradients) -> Gradients:
        with self._subject.guard("backward"):
            return self._subject.ordinary(self.run.backward_onto(cotangents, held))

    def release(self) -> None:
        self.run.release()


class _Guard:
    """What is done before and after a call; a class, as there are dozens of calls in a check of a millisecond."""

    __slots__ = ("_stage", "_subject")

    def __init__(self, subject: GuardedSubject, stage: Stage) -> None:
        self._subject, self._stage = subject, stage

    def __enter__(self) -> None:
        subject = self._subject
        subject.context.require_time()
        for source in subject.random:
            source.start(stable_seed(subject.context.seed, "random numbers", self._stage, subject.draw))
        subject.placed.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subject.placed.__exit__(kind, error, trace)
        if error is None:
            self._subject.context.require_time()


class GuardedSubject:
    """Another subject, each of whose calls begins and ends with a look at the clock.

    Between two calls a check holds nothing of the subject's or of torch's that could be left half done, so that is
    where it stops when its time is up: never within a call.

    Where the subject draws random numbers, every forward draws the same ones, so that it is a function of its inputs.
    Every backward draws the same ones as well, but others than the forward: a mask has to be kept, not drawn again.

    Attributes:
        context: The circumstances of the check that is running, with its deadline.
        random: What the subject draws random numbers from.
        latest: The values that the latest forward pass was made with; one that is left out is the given one.
        draw: Which numbers: another one stands for other ones.
        placed: Is entered around each call, and puts what the subject makes on the caller's default device.
    """

    def __init__(
        self,
        subject: Subject,
        context: CheckContext,
        random: Sequence[RandomSource] = (),
        *,
        placed: AbstractContextManager[object] | None = None,
    ) -> None:
        self._subject = subject
        self.context = context
        self.random = random
        self.placed = placed if placed is not None else nullcontext()
        self.draw = 0
        self.latest: Values = {}
        self.name, self.form, self.target, self.notes = subject.name, subject.form, subject.target, subject.notes
        self.operands, self.traits = subject.operands, subject.traits

    def guard(self, stage: Stage) -> _Guard:
        """Context manager around one call.

        Raises:
            TimeLimitReached: If the time is up at its begin, or at its end.
        """
        return _Guard(self, stage)

    def ordinary(self, gradients: Gradients) -> dict[str, Tensor | None]:
        """Gradients that can be calculated with: sparse and quantized ones, and zeros without memory, are filled in.

        Raises:
            SubjectError: If one has no values that can be calculated with (it is nested, say, or on the meta device).
        """
        return {name: None if g is None else self._ordinary(name, g) for name, g in gradients.items()}

    def _ordinary(self, name: str, gradient: Tensor) -> Tensor:
        if gradient.is_quantized:
            return gradient.detach().dequantize()
        if gradient.layout != torch.strided and not gradient.is_nested:
            return gradient.detach().to_dense()
        if gradient.is_meta or gradient.is_nested or gradient.dtype not in CALCULATED:
            raise SubjectError(f"the gradient of {name} that {self.name} gives {unusual(gradient)}")
        if gradient.dtype is torch.bool:
            raise SubjectError(
                f"the gradient of {name} that {self.name} gives has dtype torch.bool, which is no number"
            )
        # Autograd's zeros for "no influence" have no memory, and cannot be written to.
        return gradient.clone() if gradient.data_ptr() == 0 and gradient.numel() else gradient

    def at_given_values(self) -> bool:
        """Whether the latest forward pass was at the values that somebody gave (and so is what follows it)."""
        return all(
            operand.name not in self.latest or _is_same(self.latest[operand.name], operand.value)
            for operand in self.operands
        )

    def forward(self, values: Values) -> Mapping[str, Tensor]:
        self.latest = values
        with self.guard("forward"):
            return self._subject.forward(values)

    def run(self, values: Values, *, beside: Run | None = None, frozen: Collection[str] = ()) -> GuardedRun:
        self.latest = values
        earlier = beside.run if isinstance(beside, GuardedRun) else beside
        with self.guard("forward"):
            return GuardedRun(self, self._subject.run(values, beside=earlier, frozen=frozen))

    def backward_together(self, runs: Sequence[Run], cotangents: Sequence[Cotangents]) -> Gradients:
        with self.guard("backward"):
            together = self._subject.backward_together(
                [run.run if isinstance(run, GuardedRun) else run for run in runs], cotangents
            )
            return self.ordinary(together)

    @property
    def unguarded(self) -> Subject:
        """The subject itself."""
        return self._subject

    def around(self, other: Subject) -> GuardedSubject:
        """Another subject, guarded as this one is."""
        guarded = GuardedSubject(other, self.context, self.random, placed=self.placed)
        guarded.draw = self.draw
        return guarded

    def rebuilt(self, target: object) -> GuardedSubject:
        return GuardedSubject(self._subject.rebuilt(target), self.context, self.random, placed=self.placed)


def unguarded(run: Run) -> Run:
    """The pass of the subject itself."""
    while isinstance(run, GuardedRun | PairsRun):
        run = run.run
    return run


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Whether tensors have one dtype, device and shape, and the same entries; NaN is as good as NaN."""
    if (a.dtype, a.device, a.shape) != (b.dtype, b.device, b.shape):
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())
