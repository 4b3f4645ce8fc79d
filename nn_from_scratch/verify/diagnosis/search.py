"""Comparing every hypothesis with a wrong gradient, and choosing the simplest explanation that fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

from torch import Tensor

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.diagnosis.constants import MOST_LISTED, PLAIN, SECOND_FAULT
from nn_from_scratch.verify.diagnosis.explanation import Explanation, Hypothesis
from nn_from_scratch.verify.diagnosis.factors import special_factor
from nn_from_scratch.verify.diagnosis.hypotheses import HYPOTHESES
from nn_from_scratch.verify.diagnosis.probing import Probes
from nn_from_scratch.verify.diagnosis.problem import Diagnosis, DiagnosisContext, Problem, pose


def explain(
    analytic: Tensor | None,
    numeric: Tensor,
    *,
    tolerance: Tensor | float | None = None,
    context: DiagnosisContext | None = None,
) -> Diagnosis | None:
    """Name the fault of a wrong gradient.

    Args:
        analytic: What the backward returned, of any dtype, device and shape; None where it returned nothing.
        numeric: The true gradient, as finite differences give it; floating or complex, finite.
        tolerance: The allowed error of each entry of `numeric`: a tensor that broadcasts to it, or one
            number. If None, it is guessed from the dtype of `analytic`.
        context: What else is known about the experiment. More context gives names to more faults.

    Returns:
        The simplest explanation that meets the whole gradient within the allowed error; where several
        equally simple ones do, one diagnosis that says so. None if the gradient is right, or wrong in a way
        that has no name here.

    Raises:
        ArgumentError: `numeric` has no entry or is not finite, or the tolerance is negative or not finite.
        ShapeError: The tolerance does not broadcast to `numeric`.
    """
    context = DiagnosisContext() if context is None else context
    if not numeric.numel():
        raise ArgumentError(f"numeric has the shape {tuple(numeric.shape)}, but one with entries is expected")
    subject = "The gradient" if context.name is None else f"The gradient of {context.name!r}"
    if analytic is None:
        if not numeric.any():
            return None
        return Diagnosis(
            "forgotten", f"{subject} is forgotten: it is None, although the output changes with the tensor."
        )
    problem = pose(analytic, numeric, tolerance, context)
    if problem.same_shape and not problem.wrong.any():
        return None
    if not problem.analytic.isfinite().all():
        return _not_finite(problem, subject)
    found = _simplest(problem)
    return _diagnosis(subject, found) if found else None


def _simplest(problem: Problem) -> list[tuple[str, Explanation]]:
    """All explanations of the least complexity that fit, each with its hypothesis' group."""
    probes, best, found = Probes(problem), math.inf, list[tuple[str, Explanation]]()
    # Experiments come last, since they cost forward passes.
    for hypothesis in sorted(HYPOTHESES, key=lambda h: (h.experimental, h.simplest)):
        if best < hypothesis.simplest or (hypothesis.experimental and best <= PLAIN):
            continue
        if not (problem.same_shape or hypothesis.any_shape):
            continue
        if hypothesis.experimental and probes.exhausted:
            break
        for candidate in hypothesis.propose(problem, probes):
            for explanation in _with_factor(problem, hypothesis, candidate):
                if explanation.complexity > best:
                    break
                if explanation.fits(problem):
                    if explanation.complexity < best:
                        best, found = explanation.complexity, []
                    found.append((hypothesis.group, explanation))
                    break
    return found


def _with_factor(problem: Problem, hypothesis: Hypothesis, explanation: Explanation) -> Iterator[Explanation]:
    """The explanation itself, and combined with a wrong sign or with a factor that has a name here."""
    yield explanation
    prediction = explanation.prediction
    if not hypothesis.scalable or prediction is None:
        return
    observed = problem.analytic if explanation.observed is None else explanation.observed
    if observed.shape != prediction.value.shape:
        return
    factor = special_factor(observed, prediction, problem, explanation.speaks)
    if factor is not None and factor.known:
        yield replace(
            explanation,
            claim=f"{explanation.claim}; it also {factor}",
            complexity=explanation.complexity + SECOND_FAULT,
            prediction=prediction.scaled(factor.value),
            details={**explanation.details, **factor.details},
        )


def _not_finite(problem: Problem, subject: str) -> Diagnosis | None:
    """NaN or infinity in a gradient whose other entries are right, or that has no other entries."""
    bad = ~problem.analytic.isfinite()
    if problem.same_shape and (problem.wrong & ~bad).any():
        return None
    word = "NaN" if problem.analytic.isnan().any() else "infinite"
    count = int(bad.sum())
    rest = "" if count == bad.numel() else " and right in the others"
    return Diagnosis(
        "not-finite",
        f"{subject} is {word} in {count} of {bad.numel()} entries{rest}, where the true one is finite.",
        MappingProxyType({"entries": count}),
    )


def _diagnosis(subject: str, found: list[tuple[str, Explanation]]) -> Diagnosis:
    """One sentence for the explanations that fit equally well."""
    claims = tuple(dict.fromkeys(explanation.claim for _, explanation in found))
    kinds = tuple(dict.fromkeys(explanation.kind for _, explanation in found))
    if len(claims) == 1:
        return Diagnosis(kinds[0], f"{subject} {claims[0]}.", MappingProxyType(dict(found[0][1].details)))
    groups = {group for group, _ in found}
    kind = kinds[0] if len(kinds) == 1 else groups.pop() if len(groups) == 1 else "ambiguous"
    shown = ", or ".join(claims[:MOST_LISTED])
    more = "" if len(claims) <= MOST_LISTED else f", or {len(claims) - MOST_LISTED} others"
    sentence = f"{subject} {shown}{more}: these values cannot tell which."
    return Diagnosis(kind, sentence, MappingProxyType({"alternatives": kinds, "claims": claims}))
