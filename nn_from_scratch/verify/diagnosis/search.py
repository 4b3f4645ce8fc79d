"""Holding every hypothesis against a wrong gradient, and choosing the simplest that explains it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from torch import Tensor

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.diagnosis.context import Diagnosis, DiagnosisContext
from nn_from_scratch.verify.diagnosis.explanation import Explanation, carries, fits
from nn_from_scratch.verify.diagnosis.factors import say
from nn_from_scratch.verify.diagnosis.hypotheses import (
    broadcast,
    calls,
    pointwise,
    rearrangement,
    region,
    scale,
    substitutions,
)
from nn_from_scratch.verify.diagnosis.operands import wrong_operand
from nn_from_scratch.verify.diagnosis.probing import Probes, known_faults
from nn_from_scratch.verify.diagnosis.problem import Problem, pose

__all__ = ["explain"]

_READINGS: tuple[Callable[[Problem], Iterator[Explanation]], ...] = (
    scale.zero,
    scale.sign,
    scale.factor,
    calls.previous_call,
    calls.accumulated,
    calls.mistaken,
    calls.missing_term,
    broadcast.unsummed,
    broadcast.summed_away,
    broadcast.reduced,
    broadcast.wrong_axes,
    rearrangement.permuted,
    rearrangement.flipped,
    rearrangement.rolled,
    rearrangement.shifted,
    rearrangement.reshaped,
    rearrangement.reordered,
    pointwise.distorted,
    pointwise.clipped,
    pointwise.factor_of_tensor,
    pointwise.offset,
    pointwise.scaled_along_axis,
    region.regional,
    region.where_condition,
    region.conjugated,
)
"""Hypotheses that only look at what is given."""

_EXPERIMENTS: tuple[Callable[[Problem, Probes], Iterator[Explanation]], ...] = (
    substitutions.ignored,
    known_faults,
    substitutions.replaced,
    wrong_operand,
    substitutions.one_output,
    substitutions.one_slice,
    substitutions.independent,
)
"""Hypotheses that need further gradients; left out where something simpler than any of them fits."""

_SIMPLEST = 1.0
_SIMPLER_THAN_EXPERIMENTS = 2.0
_MOST_ALTERNATIVES = 3


def explain(
    analytic: Tensor | None,
    numeric: Tensor,
    *,
    tolerance: Tensor | float | None = None,
    context: DiagnosisContext | None = None,
) -> Diagnosis | None:
    """Name the fault of a wrong gradient.

    Args:
        analytic: What the backward returned, of any dtype, device and shape; None is what a detached tensor
            gets.
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
        raise ArgumentError(f"explain: numeric has the shape {tuple(numeric.shape)} and must have entries.")
    subject = "The gradient" if context.name is None else f"The gradient of {context.name!r}"
    if analytic is None:
        if not numeric.any():
            return None
        return Diagnosis("none", f"{subject} is None: the tensor is detached from the output, and it should not be.")
    problem = pose(analytic, numeric, tolerance, context)
    if problem.same_shape and not problem.wrong.any():
        return None
    if not problem.finite:
        return _not_finite(problem, subject)
    best: list[Explanation] = []
    for make in _READINGS:
        best = _simplest(problem, make(problem), best)
        if best and best[0].complexity <= _SIMPLEST:
            break
    if not best or best[0].complexity > _SIMPLER_THAN_EXPERIMENTS:
        probes = Probes(problem)
        best = _simplest(problem, (e for run in _EXPERIMENTS for e in run(problem, probes)), best)
    return _diagnosis(subject, best) if best else None


def _simplest(problem: Problem, candidates: Iterable[Explanation], best: list[Explanation]) -> list[Explanation]:
    """All explanations of the least complexity that fit, together with those found before."""
    found = list(best)
    for candidate in candidates:
        if found and candidate.complexity > found[0].complexity:
            continue
        for explanation in _with_factor(problem, candidate):
            if found and explanation.complexity > found[0].complexity:
                continue
            if fits(problem, explanation) and carries(problem, explanation):
                if found and explanation.complexity < found[0].complexity:
                    found.clear()
                found.append(explanation)
                break
    return found


def _with_factor(problem: Problem, explanation: Explanation) -> Iterator[Explanation]:
    """The explanation itself, and combined with a wrong sign or with a factor that has a name here."""
    yield explanation
    if not explanation.scalable or explanation.prediction is None:
        return
    prediction = explanation.prediction
    observed = problem.analytic if explanation.observed is None else explanation.observed
    if observed.shape != prediction.value.shape:
        return
    factor = scale.simple_factor(problem, observed, prediction, explanation.speaks)
    if factor is None or not factor.known:
        return
    yield replace(
        explanation,
        claim=f"{explanation.claim}; it also {say(factor)}",
        complexity=explanation.complexity + 2,
        prediction=prediction.scaled(factor.value),
        details={**explanation.details, "factor": factor.value, "names": factor.names},
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


def _diagnosis(subject: str, found: list[Explanation]) -> Diagnosis:
    """One sentence for the explanations that fit equally well."""
    claims = list(dict.fromkeys(explanation.claim for explanation in found))
    kinds = tuple(dict.fromkeys(explanation.kind for explanation in found))
    families = {explanation.family for explanation in found}
    if len(claims) == 1:
        return Diagnosis(kinds[0], f"{subject} {claims[0]}.", _frozen(found[0].details))
    kind = kinds[0] if len(kinds) == 1 else families.pop() if len(families) == 1 else "ambiguous"
    shown = ", or ".join(claims[:_MOST_ALTERNATIVES])
    more = "" if len(claims) <= _MOST_ALTERNATIVES else f", or {len(claims) - _MOST_ALTERNATIVES} others"
    return Diagnosis(
        kind,
        f"{subject} {shown}{more}: these values cannot tell which.",
        _frozen({"alternatives": kinds, "claims": tuple(claims)}),
    )


def _frozen(details: Mapping[str, object]) -> Mapping[str, object]:
    return MappingProxyType(dict(details))
