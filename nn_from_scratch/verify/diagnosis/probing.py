"""Further experiments: the true gradient, and the subject's, for another cotangent or other values.

The true gradient comes from an operation that was recognised (exact and cheap), else from the caller's
numerical differentiation, within a budget of calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.context import Cotangents
from nn_from_scratch.verify.diagnosis.explanation import Explanation
from nn_from_scratch.verify.diagnosis.families import FAMILIES, Family
from nn_from_scratch.verify.diagnosis.families.operation import gradient_of, outputs_of
from nn_from_scratch.verify.diagnosis.problem import Problem, plain

__all__ = ["Probes", "known_faults"]

_OUTPUT_TOLERANCE = 1e-4


class Probes:
    """The experiments of one diagnosis; results are kept, since several hypotheses ask for the same."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._left = problem.context.experiments

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """The operations with the numeric gradient and, if that is known, with the subject's output."""
        context, problem = self.problem.context, self.problem
        if context.name is None or context.name not in context.tensors or len(context.cotangents) != 1:
            return ()
        return tuple(family for make in FAMILIES for family in make(problem) if self._recognised(family))

    def _recognised(self, family: Family) -> bool:
        context, problem = self.problem.context, self.problem
        if context.name is None or not self._same_output(family):
            return False
        gradient = gradient_of(family.forward, context.tensors, context.name, context.cotangents)
        if gradient is None or gradient.shape != problem.numeric.shape:
            return False
        near = (gradient - problem.numeric).abs() <= problem.truth.allowed
        if family.sure is not None:
            near = near | ~family.sure
        return bool(near.all())

    def _same_output(self, family: Family) -> bool:
        """False only if the subject's output is known and differs; a surrogate of a gradient has none."""
        outputs, g = self.problem.context.outputs, self.problem.context.only_cotangent
        if len(outputs) != 1 or g is None or family.sure is not None:
            return True
        theirs = plain(next(iter(outputs.values())))
        ours = outputs_of(family.forward, self.problem.context.tensors, plain(g))
        if ours is None or ours.shape != theirs.shape:
            return False
        scale = theirs.abs().max() if theirs.numel() else torch.ones(())
        return bool(((ours - theirs).abs() <= _OUTPUT_TOLERANCE * scale).all())

    def true_gradient(self, cotangents: Cotangents, values: Mapping[str, Tensor] | None = None) -> Tensor | None:
        """The true gradient of another experiment, or None where none can be had."""
        context, name = self.problem.context, self.problem.context.name
        changed = dict(values or {})
        if self.families and name is not None:
            found = gradient_of(self.families[0].forward, {**context.tensors, **changed}, name, cotangents)
            if found is not None:
                return found
        if context.numeric_at is None or self._left <= 0:
            return None
        self._left -= 1
        answer = context.numeric_at(cotangents, changed)
        return None if answer is None else plain(answer)

    def subjects_gradient(self, cotangents: Cotangents) -> Tensor | None:
        """The subject's own gradient for another cotangent, or None where none can be had."""
        if self.problem.context.gradient_at is None or self._left <= 0:
            return None
        self._left -= 1
        answer = self.problem.context.gradient_at(cotangents, {})
        return None if answer is None else plain(answer)


def known_faults(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """Of every operation that the subject was recognised as, every known fault."""
    context = problem.context
    if context.name is None:
        return
    for family in probes.families:
        for fault in family.faults:
            gradient = gradient_of(fault.surrogate, context.tensors, context.name, context.cotangents)
            if gradient is not None and gradient.shape == problem.numeric.shape:
                yield Explanation(
                    fault.kind,
                    "known-fault",
                    fault.claim,
                    fault.complexity + family.rank,
                    problem.truth.replaced(gradient),
                    details={"operation": family.label},
                )
