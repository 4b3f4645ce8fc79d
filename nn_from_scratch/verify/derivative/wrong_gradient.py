"""From a projection that disagrees to a finding: which entries, by how much, and the fault by name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify.comparison import Mismatch
from nn_from_scratch.verify.context import CheckContext, TimeLimitReached
from nn_from_scratch.verify.derivative.entries import Location, entry_gradient, locate
from nn_from_scratch.verify.derivative.linearization import LinearizationPoint, point_with
from nn_from_scratch.verify.diagnosis import Diagnosis, DiagnosisContext, explain
from nn_from_scratch.verify.protocol import Operand
from nn_from_scratch.verify.results import CheckResult

__all__ = ["WrongGradient", "wrong_gradient"]

_SECONDS = {"quick": 10.0, "full": 60.0}


@dataclass(frozen=True, kw_only=True)
class WrongGradient:
    """A gradient known to be wrong.

    Attributes:
        point: Where.
        slot: The tensor.
        row: Which cotangent showed it.
        start: A largest step that suits the function, relative to the tensor's magnitude.
        projected: The numbers of the projection that showed it, if one did.
        reason: What is wrong, in words, if there is more to say than the numbers do.
    """

    point: LinearizationPoint
    slot: Operand
    row: int
    start: float
    projected: Mismatch | None
    reason: str | None


def wrong_gradient(check: str, finding: WrongGradient, context: CheckContext) -> CheckResult:
    """Locate the entries that are wrong and name the fault, within the time that is left.

    Args:
        check: The name of the check.
        finding: What is known so far.
        context: Seed, factor, deadline, and the option `entry_seconds`.
    """
    seconds = float(context.option("entry_seconds", _SECONDS[context.level]))
    seconds = min(seconds, 0.4 * context.remaining)
    # What is left of the time must not turn a gradient that is known to be wrong into an undecided one.
    limited = replace(context, deadline=time.monotonic() + seconds)
    gradient = finding.point.gradient(finding.slot.name, finding.row)
    location = Location(mismatch=None)
    diagnosis = None
    try:
        location = locate(
            finding.point,
            finding.slot.name,
            gradient,
            limited,
            start=finding.start,
            row=finding.row,
            seconds=0.5 * seconds,
        )
        if location.numeric is not None:
            diagnosis = _explained(finding, gradient, location, limited)
    except TimeLimitReached:
        pass
    details = {} if diagnosis is None else {"diagnosis_kind": diagnosis.kind, **diagnosis.details}
    return CheckResult.wrong(
        check,
        finding.slot.name,
        reason=finding.reason,
        mismatch=location.mismatch or finding.projected,
        diagnosis=None if diagnosis is None else diagnosis.sentence,
        details=details,
    )


def _explained(
    finding: WrongGradient, gradient: Tensor | None, location: Location, context: CheckContext
) -> Diagnosis | None:
    assert location.numeric is not None
    assert location.allowed is not None
    point, slot = finding.point, finding.slot
    allowed = location.allowed
    finite = torch.isfinite(allowed)
    if not bool(finite.any()):
        return None
    # An entry without a numerical value is predicted by anything.
    allowed = torch.where(finite, allowed, location.numeric.abs().max() + 1e300)
    experiments = _Experiments(finding=finding, context=context)
    known = DiagnosisContext(
        name=slot.name,
        role=slot.role,
        batch_size=_batch_size(point),
        tensors=point.values,
        outputs=point.named_outputs,
        cotangent=point.named_cotangents[finding.row],
        gradient_at=experiments.analytic,
        numeric_at=experiments.numeric,
    )
    try:
        return explain(gradient, location.numeric, tolerance=allowed, context=known)
    except ArgumentError:
        return None


@dataclass(frozen=True, kw_only=True)
class _Experiments:
    finding: WrongGradient
    context: CheckContext

    def analytic(self, cotangents: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Tensor | None:
        try:
            point = self._point(cotangents, values, differentiated=True)
        except SubjectError:
            return None
        return None if point is None else point.gradient(self.finding.slot.name, 0)

    def numeric(self, cotangents: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Tensor | None:
        try:
            point = self._point(cotangents, values, differentiated=False)
            if point is None:
                return None
            found = entry_gradient(
                point,
                self.finding.slot.name,
                self.context,
                start=self.finding.start,
                seconds=0.25 * self.context.remaining,
            )
        except SubjectError:
            return None
        if found is None or not bool(torch.isfinite(found.value).all()):
            return None
        return found.value

    def _point(
        self, cotangents: Mapping[str, Tensor], values: Mapping[str, Tensor], *, differentiated: bool
    ) -> LinearizationPoint | None:
        here = self.finding.point
        placed = {name: value.to(here.values[name]) for name, value in values.items()}
        if self.finding.slot.name in placed:
            shape = here.values[self.finding.slot.name].shape
            if placed[self.finding.slot.name].shape != shape:
                return None
        point = point_with(here.subject, {**here.values, **placed}, cotangents, differentiated=differentiated)
        return point if point.finite is None else None


def _batch_size(point: LinearizationPoint) -> int | None:
    inputs = [slot for slot in point.subject.operands if slot.role == "input"]
    outputs = list(point.named_outputs.values())
    if not inputs or not outputs or inputs[0].value.dim() == 0 or outputs[0].dim() == 0:
        return None
    size = inputs[0].value.shape[0]
    return int(size) if size == outputs[0].shape[0] else None
