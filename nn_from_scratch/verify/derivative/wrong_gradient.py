"""From a gradient that is known to be wrong to its result: which entries, by how much, and the fault by name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify.comparison import Mismatch
from nn_from_scratch.verify.context import TimeLimitReached
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.entries import Location, entry_gradient, locate
from nn_from_scratch.verify.derivative.linearization import LinearizationPoint, point_with
from nn_from_scratch.verify.derivative.probes import VariedOperand
from nn_from_scratch.verify.diagnosis import Diagnosis, DiagnosisContext, explain
from nn_from_scratch.verify.results import CheckResult

GRADIENT = "gradient"

Named = Mapping[str, Tensor]


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
    diagnosis = None
    try:
        location = locate(varied, gradient, start=start, seconds=constants.SHARE_FOR_ENTRIES * seconds)
        diagnosis = _explained(varied, gradient, location, start)
    except TimeLimitReached:
        pass
    return CheckResult.wrong(
        GRADIENT,
        varied.name,
        reason=reason,
        mismatch=location.mismatch or projected,
        diagnosis=None if diagnosis is None else diagnosis.sentence,
        details={} if diagnosis is None else {"diagnosis_kind": diagnosis.kind, **diagnosis.details},
    )


def _explained(varied: VariedOperand, gradient: Tensor | None, location: Location, start: float) -> Diagnosis | None:
    numeric, allowed = location.numeric, location.allowed
    if numeric is None or allowed is None or not bool(torch.isfinite(allowed).any()):
        return None
    point, context = varied.point, varied.context

    def at(cotangents: Named, values: Named, *, differentiated: bool) -> VariedOperand | None:
        """The operand at other values, with another cotangent; None where the subject does not go."""
        placed = {**point.values, **{name: value.to(point.values[name]) for name, value in values.items()}}
        if placed[varied.name].shape != varied.x.shape:
            return None
        try:
            moved = point_with(point.subject, placed, cotangents, differentiated=differentiated)
        except SubjectError:
            return None
        return replace(varied, point=moved, row=0) if moved.finite is None else None

    def analytic(cotangents: Named, values: Named) -> Tensor | None:
        moved = at(cotangents, values, differentiated=True)
        return None if moved is None else moved.gradient

    def numeric_gradient(cotangents: Named, values: Named) -> Tensor | None:
        moved = at(cotangents, values, differentiated=False)
        if moved is None:
            return None
        try:
            found = entry_gradient(moved, start=start, seconds=constants.SHARE_FOR_RECOMPUTING * context.remaining)
        except SubjectError:
            return None
        return found.value if found is not None and bool(torch.isfinite(found.value).all()) else None

    known = DiagnosisContext(
        name=varied.name,
        role=varied.operand.role,
        batch_size=_batch_size(point),
        tensors=point.values,
        outputs=point.named_outputs,
        cotangent=point.named_cotangents[varied.row],
        gradient_at=analytic,
        numeric_at=numeric_gradient,
    )
    # An entry without a numerical value is predicted by anything.
    allowed = torch.where(torch.isfinite(allowed), allowed, constants.UNBOUNDED)
    try:
        return explain(gradient, numeric, tolerance=allowed, context=known)
    except ArgumentError:
        return None


def _batch_size(point: LinearizationPoint) -> int | None:
    inputs = [operand for operand in point.subject.operands if operand.role == "input"]
    outputs = list(point.named_outputs.values())
    if not inputs or not outputs or inputs[0].value.dim() == 0 or outputs[0].dim() == 0:
        return None
    size = int(inputs[0].value.shape[0])
    return size if size == outputs[0].shape[0] else None
