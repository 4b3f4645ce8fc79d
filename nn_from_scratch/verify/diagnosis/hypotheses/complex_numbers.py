"""Faults of complex gradients: a conjugate too few or too many, a part that is lost, a factor of i.

The gradients are pairs of real numbers along the last axis, in PyTorch's convention: that of a real function by z is
dL/d(Re z) + i dL/d(Im z), so that the backward of a product z w gives g conj(w).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import PLAIN
from nn_from_scratch.verify.diagnosis.explanation import Explanation, experiment, hypothesis
from nn_from_scratch.verify.diagnosis.probing import Probes
from nn_from_scratch.verify.diagnosis.problem import Problem, plain

_SIMPLE = {
    "conjugated": ((1.0, -1.0), False, "is the complex conjugate of the true one"),
    "imaginary-part-missing": ((1.0, 0.0), False, "is the real part of the true one: the imaginary part is lost"),
    "real-part-missing": ((0.0, 1.0), False, "has the imaginary part of the true one, and no real part"),
    "times-i": ((-1.0, 1.0), True, "is the true one times i"),
    "times-minus-i": ((1.0, -1.0), True, "is the true one times -i"),
}
"""By the kind: the factors of both parts, whether they are exchanged first, and the words."""


@hypothesis("complex", simplest=PLAIN)
def of_both_parts(problem: Problem) -> Iterator[Explanation]:
    """The true gradient with the sign of a part changed, without a part, or turned by a right angle."""
    if not problem.complex:
        return
    for kind, (factors, exchanged, claim) in _SIMPLE.items():
        weights = torch.tensor(factors, dtype=torch.float64)
        truth = problem.truth.rearranged(lambda t: t.flip(-1)) if exchanged else problem.truth
        yield Explanation(kind, claim, PLAIN, truth.replaced(truth.value * weights))


@experiment("complex", simplest=PLAIN)
def conjugate_inside(problem: Problem, probes: Probes) -> Iterator[Explanation]:
    """The conjugate of what the subject gives for the conjugate cotangent is right: its factors are conjugated wrongly.

    A backward g ↦ g w where it should be g ↦ g conj(w) is right for conj(g), conjugated.
    """
    context = problem.context
    if context.gradient_at is None or not any(name in context.pairs for name in context.cotangents):
        return
    cotangents = {n: _conjugate(g) if n in context.pairs else g for n, g in context.cotangents.items()}
    found = context.gradient_at(cotangents, {})
    if found is None or found.shape != problem.numeric.shape:
        return
    observed = plain(_conjugate(found) if problem.complex else found)
    claim = "multiplies the cotangent by the conjugate of what it should: a conj() is missing, or one too many"
    yield Explanation("conjugate-missing", claim, PLAIN, problem.truth, observed=observed)


def _conjugate(pairs: Tensor) -> Tensor:
    return pairs * torch.tensor([1.0, -1.0], dtype=pairs.dtype, device=pairs.device)
