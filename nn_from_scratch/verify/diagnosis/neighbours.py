"""The derivative of a neighbour, or of the right function with one of the faults that are known for it."""

from __future__ import annotations

from collections.abc import Iterator

from nn_from_scratch.verify.diagnosis.explanation import Explanation
from nn_from_scratch.verify.diagnosis.families.rule import gradient_of
from nn_from_scratch.verify.diagnosis.laboratory import Laboratory
from nn_from_scratch.verify.diagnosis.problem import Problem

__all__ = ["known_faults"]


def known_faults(problem: Problem, laboratory: Laboratory) -> Iterator[Explanation]:
    """Of every operation that the subject was recognised as, every known fault."""
    context = problem.context
    if context.name is None:
        return
    for family in laboratory.families:
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
