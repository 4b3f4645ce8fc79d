"""The gradient check: what a backward returns, compared with finite differences, one tensor at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.comparison import percent
from nn_from_scratch.verify.context import Budget, CheckContext, TimeLimitReached
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.entries import entry_gradient
from nn_from_scratch.verify.derivative.given_precision import as_exact_as_given
from nn_from_scratch.verify.derivative.linearization import NoGradientError, point_at, working_values
from nn_from_scratch.verify.derivative.measurements import Measurement, best, confirm, measure, measure_all
from nn_from_scratch.verify.derivative.probes import VariedOperand
from nn_from_scratch.verify.derivative.special_points import correct, not_finite, report_wrong, undecided, unresolved
from nn_from_scratch.verify.derivative.wrong_gradient import GRADIENT, wrong_gradient
from nn_from_scratch.verify.protocol import Subject, starting_values
from nn_from_scratch.verify.results import CheckResult

__all__ = ["GRADIENT", "check_gradient", "check_operands"]


def check_gradient(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Check the gradient of every differentiable tensor by finite differences.

    For each tensor, directional derivatives <VJP(v), u> are compared with those of φ(t) = <v, f(x + t u)> by Ridders'
    method, for random dense signed u and v; the tolerance is a multiple of the estimated error. About 10 to 30 forward
    passes a direction, whatever the number of entries. Options: `resolution`, `entry_seconds`, `naming_seconds`.

    Raises:
        SubjectError: If the subject's forward raises, or it has no floating-point output.
    """
    return check_operands(GRADIENT, subject, context, _check_operand)


def check_operands(
    check: str,
    subject: Subject,
    context: CheckContext,
    check_operand: Callable[[VariedOperand], CheckResult],
    *,
    needs_float64: bool = False,
) -> list[CheckResult]:
    """Check each differentiable operand at the starting values, in float64 where the subject takes that.

    Args:
        needs_float64: Whether the check does not apply to a subject that takes no float64.
    """
    operands = [operand for operand in subject.operands if operand.differentiable]
    if not operands:
        reason = "no tensor of the subject is differentiable"
        if check == GRADIENT and not any(operand.value.is_floating_point() for operand in subject.operands):
            return [CheckResult.undecided(check, f"{reason}, so there is no gradient to verify")]
        return [CheckResult.not_applicable(check, reason)]
    naming = Budget(float(context.option("naming_seconds", constants.NAMING_SECONDS[context.level])))
    context = replace(context, naming=naming)
    values, why = working_values(subject)
    if why is not None and needs_float64:
        return [CheckResult.not_applicable(check, why)]
    try:
        point = point_at(subject, values, context)
    except NoGradientError as error:
        make = CheckResult.undecided if check == GRADIENT else CheckResult.not_applicable
        return [make(check, str(error))]
    except SubjectError as error:
        subject.forward(values)
        return [CheckResult.wrong(check, reason=str(error))]
    results = []
    for operand in operands:
        began = time.monotonic()
        try:
            varied = VariedOperand(point=point, operand=operand, context=context)
            result = check_operand(varied)
            if as_exact_as_given(varied, result):
                result = _in_given_precision(check, varied, check_operand, needs_float64=needs_float64)
        except TimeLimitReached as late:
            result = CheckResult.undecided(check, str(late), operand.name)
        details = {**({} if why is None else {"dtype": why}), **result.details}
        results.append(result.with_fields(details=details, seconds=time.monotonic() - began))
    return results


def _in_given_precision(
    check: str, varied: VariedOperand, check_operand: Callable[[VariedOperand], CheckResult], *, needs_float64: bool
) -> CheckResult:
    """The check in the dtype that the subject was given in, as its backward is no more exact in float64."""
    why = "in float64 the gradient is no more exact than in float32, in which some of it is computed"
    if needs_float64:
        return CheckResult.not_applicable(check, why, varied.name)
    point = point_at(varied.point.subject, starting_values(varied.point.subject), varied.context)
    result = check_operand(replace(varied, point=point))
    return result.with_fields(details={"dtype": why, **result.details})


def _check_operand(varied: VariedOperand) -> CheckResult:
    point, x, gradient = varied.point, varied.x, varied.gradient
    if x.numel() == 0 or point.outputs.numel() == 0:
        if point.finite is not None:
            return undecided(varied, "no entry of the output is finite here")
        what = "the tensor" if x.numel() == 0 else "the output"
        return CheckResult.not_applicable(GRADIENT, f"{what} has no entries", varied.name)
    if varied.finite is not None and not bool(varied.finite.any()):
        return undecided(varied, "no entry of the tensor is finite, so it cannot be moved")
    if gradient is not None and gradient.shape != x.shape:
        reason = f"the gradient has the shape {list(gradient.shape)}, which should be {list(x.shape)}"
        return wrong_gradient(varied, start=constants.START, reason=reason)
    measured = measure_all(varied)
    if gradient is None and not varied.operand.required:
        return _unasked(varied, measured)
    broken = not_finite(varied)
    if broken is not None:
        return broken
    doubtful = any(measurement.disagrees for measurement in measured)
    measured = [confirm(measurement) for measurement in measured]
    for measurement in measured:
        if measurement.wrong:
            return _of_a_sample(varied, measurement) or report_wrong(varied, measurement)
    if varied.point.coarse and any(measurement.scale for measurement in measured):
        # A projection that is small by chance agrees with much in so few digits: several have to.
        further = [m for k in range(constants.FURTHER_PROJECTIONS) for m in measure_all(varied, "coarse", k)]
        if doubtful or any(m.disagrees for m in further):
            return unresolved(varied, measured)
        measured += further
    if not any(measurement.resolved for measurement in measured):
        return unresolved(varied, measured)
    result = correct(varied, measured, _remark(varied, best(measured)))
    return _entry_by_entry(varied, measured, result) if varied.context.level == "full" else result


def _remark(varied: VariedOperand, finest: Measurement) -> str | None:
    """What a gradient that agrees was not verified for."""
    for finite, what in ((varied.point.finite, "outputs"), (varied.finite, "entries of the tensor")):
        if finite is not None:
            total = finite.numel()
            return f"{total - int(finite.sum())} of {total} {what} are not finite and were left out"
    if finest.resolution > constants.LOW_PRECISION_RESOLUTION:
        dtypes = sorted({str(y.dtype).removeprefix("torch.") for y in varied.point.named_outputs.values()})
        return f"the outputs are in {', '.join(dtypes)}: the gradient agrees to {percent(finest.resolution)}"
    return None


def _entry_by_entry(varied: VariedOperand, measured: Sequence[Measurement], result: CheckResult) -> CheckResult:
    """Level "full": the whole numerical gradient of a small tensor; what it finds, a projection has to confirm."""
    context, gradient, numeric = varied.context, varied.gradient, best(measured).numeric
    small = varied.x.numel() <= constants.WHOLE_GRADIENT_ENTRIES
    whole_domain = varied.point.finite is None and varied.finite is None
    if not small or gradient is None or not whole_domain or numeric is None:
        return result
    seconds = float(context.option("entry_seconds", constants.WHOLE_GRADIENT_SECONDS))
    seconds = min(seconds, constants.SHARE_FOR_WHOLE_GRADIENT * context.remaining)
    whole = entry_gradient(varied, start=numeric.start, seconds=seconds)
    if whole is None:
        return result
    known = torch.isfinite(whole.value) & torch.isfinite(whole.error)
    analytic = gradient.detach().to("cpu", torch.float64)
    allowed = context.factor * (whole.error + varied.gradient_eps * analytic.abs())
    suspects = known & ~((analytic - whole.value).abs() <= allowed)
    if bool(suspects.any()):
        direction = varied.direction("suspects") * suspects.to(varied.x.device)
        measurement = confirm(measure(varied, "suspects", direction))
        if measurement.wrong:
            return report_wrong(varied, measurement)
    return result.with_fields(details={**result.details, "entries_checked": int(known.sum())})


def _unasked(varied: VariedOperand, measured: Sequence[Measurement]) -> CheckResult:
    """A gradient that nobody asked for and that is None: forgotten, where the output changes with the tensor."""
    for measurement in map(confirm, measured):
        if measurement.wrong:
            sampled = _of_a_sample(varied, measurement)
            if sampled is not None:
                return sampled
            declared = f"if {varied.name} is a constant, leave it out of differentiable="
            reason = f"the backward returns None for it, although the output changes with it ({declared})"
            return report_wrong(varied, measurement, reason)
    reason = "the subject returns None for it, and the output was not seen to change with it"
    return CheckResult.not_applicable(GRADIENT, reason, varied.name)


def _of_a_sample(varied: VariedOperand, measured: Measurement) -> CheckResult | None:
    """A gradient of zero through random numbers may be meant: a sample is a constant to many who draw one."""
    if not varied.context.random or (varied.gradient is not None and bool(varied.gradient.any())):
        return None
    reason = (
        "the output changes with the tensor where the same random numbers are drawn, and its gradient is zero: whether "
        "a sample is differentiated is a convention"
    )
    return undecided(varied, reason, measured)
