"""From a gradient that is known to be wrong to its result: which entries, by how much, and the fault by name."""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify.comparison import Mismatch
from nn_from_scratch.verify.context import Budget, TimeLimitReached
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.axes import axis_names, batch_size, has_images
from nn_from_scratch.verify.derivative.entries import Location, locate
from nn_from_scratch.verify.derivative.experiments import Experiments
from nn_from_scratch.verify.derivative.probes import VariedOperand
from nn_from_scratch.verify.diagnosis import Diagnosis, DiagnosisContext, explain
from nn_from_scratch.verify.results import CheckResult

GRADIENT = "gradient"


def wrong_gradient(
    varied: VariedOperand, *, start: float, projected: Mismatch | None = None, reason: str | None = None
) -> CheckResult:
    """Locate the entries that are wrong and name the fault, within the time that is left.

    Args:
        varied: The operand, with the cotangent that showed it.
        start: A largest step that suits the function, relative to the operand's size.
        projected: The numbers of the projection that showed it, if one did.
        reason: What is wrong, in words, if there is more to say than the numbers do.
    """
    context = varied.context
    seconds = float(context.option("entry_seconds", constants.LOCATING_SECONDS[context.level]))
    seconds = min(seconds, constants.SHARE_FOR_LOCATING * context.remaining)
    # What is left of the time must not turn a gradient that is known to be wrong into an undecided one.
    varied = replace(varied, context=replace(context, deadline=time.monotonic() + seconds))
    gradient = varied.gradient
    location = Location(mismatch=None)
    diagnosis, budget = None, Budget(constants.SHARE_FOR_ONE_NAME * context.naming.left)
    details: dict[str, object] = {}
    try:
        location = locate(varied, gradient, start=start, seconds=constants.SHARE_FOR_ENTRIES * seconds)
        with budget.spending(), context.naming.spending():
            diagnosis = _explained(varied, gradient, location, start, budget)
    except TimeLimitReached:
        budget.stopped = True
    except Exception:  # the gradient is wrong whether or not the verifier can say where and why
        details["traceback"] = traceback.format_exc()
    if diagnosis is not None:
        details |= {"diagnosis_kind": diagnosis.kind, **diagnosis.details}
    return CheckResult.wrong(
        GRADIENT,
        varied.name,
        reason=reason,
        mismatch=location.mismatch or projected,
        diagnosis=_sentence(diagnosis, budget),
        details=details,
    )


def _sentence(diagnosis: Diagnosis | None, budget: Budget) -> str | None:
    """The name of the fault, and whether the search for one was stopped."""
    if not budget.stopped:
        return None if diagnosis is None else diagnosis.sentence
    stopped = f"search for a{' simpler' if diagnosis else ''} name stopped after {budget.spent:.1f} s of CPU time"
    return f"The {stopped}." if diagnosis is None else f"{diagnosis.sentence} The {stopped}."


def _explained(
    varied: VariedOperand, gradient: Tensor | None, location: Location, start: float, budget: Budget
) -> Diagnosis | None:
    numeric, allowed = location.numeric, location.allowed
    if numeric is None or allowed is None or not bool(torch.isfinite(allowed).any()):
        return None
    point = varied.point
    # An entry without a numerical value says nothing about directions either.
    wrong = gradient if bool(torch.isfinite(allowed).all()) else None
    experiments = Experiments(varied=varied, gradient=wrong, numeric=numeric, start=start, budget=budget)
    known = DiagnosisContext(
        name=varied.name,
        role=varied.operand.role,
        pairs=point.subject.traits.pairs,
        batch_size=batch_size(varied),
        axes=axis_names(varied),
        images=has_images(varied),
        tensors=point.values,
        outputs=point.named_outputs,
        cotangent=point.named_cotangents[varied.row],
        forward=point.subject.forward,
        gradient_at=experiments.subject_gradient,
        numeric_at=experiments.true_gradient,
        numeric_of=experiments.gradient_of,
        budget=budget,
    )
    # An entry without a numerical value is predicted by anything.
    allowed = torch.where(torch.isfinite(allowed), allowed, constants.UNBOUNDED)
    try:
        return explain(gradient, numeric, tolerance=allowed, context=known)
    except ArgumentError:
        return None
    finally:
        with suppress(SubjectError):
            point.subject.forward(point.values)  # what the subject keeps of a pass is that of an ordinary one again
