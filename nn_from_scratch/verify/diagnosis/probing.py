"""Gradients of other experiments: the true one, and the subject's, for another cotangent or other values.

The true gradient comes from an operation that was recognized (exact and cheap), else from the caller's numerical
differentiation, within a budget of calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.diagnosis.constants import OUTPUT_ERROR
from nn_from_scratch.verify.diagnosis.families import FAMILIES, Operation
from nn_from_scratch.verify.diagnosis.families.operation import gradient_of, output_of
from nn_from_scratch.verify.diagnosis.problem import Cotangents, GradientAt, Problem, plain
from nn_from_scratch.verify.diagnosis.replay import Call, Forward, Replay, Surrogate


class Probes:
    """The experiments of one diagnosis."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._left = problem.context.experiments

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The known operations with the numeric gradient and, if that is known, with the subject's output."""
        context = self.problem.context
        if context.name not in context.tensors or len(context.cotangents) != 1:
            return ()
        return tuple(o for family in FAMILIES for o in family(self.problem) if self._recognized(o))

    @cached_property
    def _replayed(self) -> tuple[Replay | None, list[Call]]:
        """The forward with autograd, if its gradient is the true one, or an operation in its place; and its calls."""
        problem, context = self.problem, self.problem.context
        if context.name not in context.tensors or context.name is None:
            return None, []
        forwards = [] if context.forward is None else [context.forward]
        forwards += [self._as_forward(operation) for operation in self.operations if operation.sure is None]
        for forward in forwards:
            replay = Replay(forward, context.tensors)
            gradient, calls = replay.gradient(context.name, context.cotangents)
            if gradient is None or gradient.shape != problem.numeric.shape:
                continue
            if bool(((gradient - problem.numeric).abs() <= problem.truth.allowed).all()):
                return replay, calls
        return None, []

    def _as_forward(self, operation: Operation) -> Forward:
        """An operation, as the forward of a subject with a single output."""
        ((name, g),) = self.problem.context.cotangents.items()
        return lambda values: {name: operation.forward(values, plain(g))}

    @property
    def calls(self) -> list[Call]:
        """What the forward calls, in order, where it can be run with autograd; empty elsewhere."""
        return self._replayed[1]

    def with_derivative(self, index: int, surrogate: Surrogate, *, instead: bool = False) -> Tensor | None:
        """The gradient if one call of the forward had another derivative, or `instead` also another value."""
        replay, context = self._replayed[0], self.problem.context
        if replay is None or context.name is None:
            return None
        return replay.gradient(context.name, context.cotangents, at=index, surrogate=surrogate, instead=instead)[0]

    def output_at(self, values: Mapping[str, Tensor]) -> Tensor | None:
        """The only output for other values of some tensors, or None where none can be had."""
        context = self.problem.context
        if context.forward is None or self._left <= 0 or self.exhausted:
            return None
        self._left -= 1
        placed = {**context.tensors, **{name: v.to(context.tensors[name]) for name, v in values.items()}}
        try:
            outputs = list(context.forward(placed).values())
        except (SubjectError, RuntimeError, ValueError):
            return None
        return plain(outputs[0]) if len(outputs) == 1 else None

    def _recognized(self, operation: Operation) -> bool:
        problem = self.problem
        if not self._same_output(operation):
            return False
        gradient = gradient_of(operation.forward, problem.context)
        if gradient is None or gradient.shape != problem.numeric.shape:
            return False
        near = (gradient - problem.numeric).abs() <= problem.truth.allowed
        return bool(near.all() if operation.sure is None else (near | ~operation.sure).all())

    def _same_output(self, operation: Operation) -> bool:
        """False only if the subject's output is known and differs; a surrogate of a gradient has none."""
        outputs, g = list(self.problem.context.outputs.values()), self.problem.context.only_cotangent
        if len(outputs) != 1 or g is None or operation.sure is not None:
            return True
        theirs = plain(outputs[0])
        ours = output_of(operation.forward, self.problem.context.tensors, plain(g))
        if ours is None or ours.shape != theirs.shape:
            return False
        scale = theirs.abs().max() if theirs.numel() else 1.0
        return bool(((ours - theirs).abs() <= OUTPUT_ERROR * scale).all())

    @property
    def exhausted(self) -> bool:
        """Whether there is no time for a further experiment; the budget then says that it stopped the search."""
        budget = self.problem.context.budget
        if budget.left <= 0:
            budget.stopped = True
        return budget.stopped

    def true_gradient(self, cotangents: Cotangents, values: Mapping[str, Tensor] | None = None) -> Tensor | None:
        """The true gradient of another experiment, or None where none can be had."""
        changed = dict(values or {})
        if self.operations:
            found = gradient_of(self.operations[0].forward, self.problem.context, cotangents, changed)
            if found is not None:
                return found
        replay, name = self._replayed[0], self.problem.context.name
        if replay is not None and name is not None and not self.exhausted:
            found = replay.gradient(name, cotangents, changed)[0]
            if found is not None:
                return found
        return self._asked(self.problem.context.numeric_at, cotangents, changed)

    def gradient_of_another(self, name: str) -> Tensor | None:
        """The true gradient of another tensor in this experiment, or None where none can be had."""
        context = self.problem.context
        if self.operations:
            found = gradient_of(self.operations[0].forward, replace(context, name=name))
            if found is not None:
                return found
        replay = self._replayed[0]
        if replay is not None and not self.exhausted:
            found = replay.gradient(name, context.cotangents)[0]
            if found is not None:
                return found
        if context.numeric_of is None or self._left <= 0 or self.exhausted:
            return None
        self._left -= 1
        answer = context.numeric_of(name)
        return None if answer is None else plain(answer)

    def subject_gradient(self, cotangents: Cotangents) -> Tensor | None:
        """The subject's own gradient for another cotangent, or None where none can be had."""
        return self._asked(self.problem.context.gradient_at, cotangents, {})

    def _asked(
        self, gradient_at: GradientAt | None, cotangents: Cotangents, values: Mapping[str, Tensor]
    ) -> Tensor | None:
        if gradient_at is None or self._left <= 0 or self.exhausted:
            return None
        self._left -= 1
        answer = gradient_at(cotangents, values)
        return None if answer is None else plain(answer)
