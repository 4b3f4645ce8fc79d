"""The gradient check: what a backward returns, held against finite differences, one tensor at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext, TimeLimitReached
from nn_from_scratch.verify.derivative.confirmation import confirm
from nn_from_scratch.verify.derivative.entries import entry_gradient
from nn_from_scratch.verify.derivative.linearization import all_finite, point_at, working_values
from nn_from_scratch.verify.derivative.measurements import Measurement, best, measure, measure_all
from nn_from_scratch.verify.derivative.probes import magnitude
from nn_from_scratch.verify.derivative.special_points import GRADIENT, Task, not_finite, report_wrong, unresolved
from nn_from_scratch.verify.derivative.wrong_gradient import WrongGradient, wrong_gradient
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.results import CheckResult

__all__ = ["GRADIENT", "check_gradient"]

_WHOLE_ENTRIES = 4096
_WHOLE_SECONDS = 20.0


def check_gradient(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Check the gradient of every differentiable tensor by finite differences.

    For each tensor, directional derivatives <VJP(v), u> are compared with those of φ(t) = <v, f(x + t u)> by Ridders'
    method, for random dense signed u and v; the tolerance is a multiple of the estimated error. About 10 to 30 forward
    passes a direction, whatever the number of entries.

    Args:
        subject: The subject.
        context: Seed, level, tolerance factor, options (`resolution`, `entry_seconds`) and deadline.

    Returns:
        One result for each differentiable tensor.

    Raises:
        SubjectError: If the subject's forward raises, or it has no floating-point output.
    """
    operands = [slot for slot in subject.operands if slot.differentiable]
    if not operands:
        return [CheckResult.not_applicable(GRADIENT, "no tensor of the subject is differentiable")]
    values, why = working_values(subject)
    try:
        point = point_at(subject, values, context)
    except SubjectError as error:
        subject.forward(values)
        return [CheckResult.wrong(GRADIENT, reason=str(error))]
    notes = {} if why is None else {"dtype": why}
    results = []
    for slot in operands:
        began = time.monotonic()
        task = Task(point=point, slot=slot, context=context)
        try:
            result = _check_slot(task)
        except TimeLimitReached as late:
            result = task.undecided(str(late))
        details = {**notes, **result.details}
        results.append(result.with_fields(details=details, seconds=time.monotonic() - began))
    return results


def _check_slot(task: Task) -> CheckResult:
    point, name, context = task.point, task.name, task.context
    x = point.values[name]
    if x.numel() == 0 or point.outputs.numel() == 0:
        if point.finite is not None:
            return task.undecided("no entry of the output is finite here")
        what = "the tensor" if x.numel() == 0 else "the output"
        return CheckResult.not_applicable(GRADIENT, f"{what} has no entries", name)
    if not all_finite(x):
        return task.undecided("the tensor holds entries that are not finite, so it cannot be moved")
    gradient = point.gradient(name, 0)
    if gradient is not None and gradient.shape != x.shape:
        return _wrong_shape(task, gradient)
    measured = measure_all(point, name, context)
    if gradient is None and not task.slot.required:
        return _undeclared(task, measured)
    broken = not_finite(task, gradient)
    if broken is not None:
        return broken
    judged = [confirm(measurement, context) for measurement in measured]
    for judgement in judged:
        if judgement.wrong:
            return report_wrong(task, judgement.measurement)
    measured = [judgement.measurement for judgement in judged]
    if not any(m.resolved for m in measured):
        return unresolved(task, measured)
    if context.level == "full":
        return _entry_by_entry(task, measured)
    return task.correct(measured, _notes(task))


def _entry_by_entry(task: Task, measured: Sequence[Measurement]) -> CheckResult:
    """Level "full": the whole numerical gradient of a small tensor; what it finds, a projection has to confirm."""
    point, name, context = task.point, task.name, task.context
    result = task.correct(measured, _notes(task))
    x, gradient, finest = point.values[name], point.gradient(name, 0), best(measured)
    if x.numel() > _WHOLE_ENTRIES or gradient is None or point.finite is not None or finest.numeric is None:
        return result
    seconds = min(float(context.option("entry_seconds", _WHOLE_SECONDS)), 0.3 * context.remaining)
    whole = entry_gradient(point, name, context, start=finest.numeric.start, seconds=seconds)
    if whole is None:
        return result
    known = torch.isfinite(whole.value) & torch.isfinite(whole.error)
    analytic = gradient.detach().to("cpu", torch.float64)
    allowed = context.factor * (whole.error + 4 * torch.finfo(gradient.dtype).eps * analytic.abs())
    suspects = known & ~((analytic - whole.value).abs() <= allowed)
    if bool(suspects.any()):
        signed = context.signed(x.shape, "direction", name, "suspects", device=x.device)
        direction = signed * magnitude(x) * suspects.to(x.device)
        judgement = confirm(measure(point, name, "suspects", direction, context), context)
        if judgement.wrong:
            return report_wrong(task, judgement.measurement)
    return result.with_fields(details={**result.details, "entries_checked": int(known.sum())})


def _wrong_shape(task: Task, gradient: Tensor) -> CheckResult:
    x = task.point.values[task.name]
    reason = f"the gradient has the shape {list(gradient.shape)}, which should be {list(x.shape)}"
    finding = WrongGradient(point=task.point, slot=task.slot, row=0, start=0.1, projected=None, reason=reason)
    return wrong_gradient(GRADIENT, finding, task.context)


def _undeclared(task: Task, measured: Sequence[Measurement]) -> CheckResult:
    finest = best(measured)
    depends = finest.numeric is not None and finest.disagrees
    effect = "although the output changes with it" if depends else "and the output does not change with it"
    return CheckResult.not_applicable(
        GRADIENT,
        f"the subject returns None for it, {effect}; let the tensor require grad to have it checked",
        task.name,
    )


def _notes(task: Task) -> str | None:
    if task.point.finite is None:
        return None
    total = task.point.finite.numel()
    return f"{total - int(task.point.finite.sum())} of {total} outputs are not finite and were left out"
