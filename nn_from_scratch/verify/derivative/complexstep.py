"""The complex step: a second, independent oracle, exact to rounding, for subjects whose forward takes complex input.

f(x + i h u) = f(x) + i h f'(x) u + O(h²), so the imaginary part over h is the derivative, with no difference to
lose digits in (Squire and Trapp 1998, "Using complex variables to estimate derivatives of real functions"). It
holds for forwards that are analytic functions of their input; `abs`, comparisons and conjugation are not, so a
disagreement counts only where finite differences disagree as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.comparison import Mismatch
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.gradients import check_operands
from nn_from_scratch.verify.derivative.linearization import all_finite, point_with
from nn_from_scratch.verify.derivative.measurements import confirm, measure
from nn_from_scratch.verify.derivative.probes import VariedOperand, directional
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.results import CheckResult

COMPLEX_STEP = "complex_step"


def check_complex_step(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Check the gradient of every differentiable tensor by the complex step.

    It does not apply where the forward takes no complex input, or is not an analytic function of it.

    Raises:
        SubjectError: If the subject's forward raises.
    """
    if subject.traits.pairs:
        return [CheckResult.not_applicable(COMPLEX_STEP, "the subject computes with complex numbers itself")]
    return check_operands(COMPLEX_STEP, subject, context, _check_operand, needs_float64=True)


def _check_operand(varied: VariedOperand) -> CheckResult:
    name, gradient, factor = varied.name, varied.gradient, varied.context.factor
    if varied.x.numel() == 0 or varied.point.outputs.numel() == 0:
        return CheckResult.not_applicable(COMPLEX_STEP, "the tensor or the output has no entries", name)
    if any(y.is_complex() for y in varied.point.named_outputs.values()) or varied.point.finite is not None:
        return CheckResult.not_applicable(COMPLEX_STEP, "the output is complex, or not finite everywhere", name)
    if gradient is None or gradient.shape != varied.x.shape or not all_finite(gradient):
        reason = "the subject returned no finite gradient of the tensor's shape"
        return CheckResult.not_applicable(COMPLEX_STEP, reason, name)
    direction = varied.direction("even", "complex")
    step = _complex_step(varied, direction)
    if isinstance(step, str):
        return CheckResult.not_applicable(COMPLEX_STEP, step, name)
    numeric, error = step
    analytic, scale = directional(gradient, direction)
    allowed = factor * (error + constants.COMPLEX_ROUNDING * scale)
    difference = abs(analytic - numeric)
    size = max(scale, abs(numeric))
    resolution = allowed / size if size else 0.0
    margin = difference / allowed if allowed else math.inf if difference else 0.0
    if difference <= allowed:
        return CheckResult.correct(COMPLEX_STEP, name, margin=margin, resolution=resolution)
    measured = confirm(measure(varied, "even", direction))
    if not measured.wrong:
        if measured.stationary:
            reason = "the outputs do not move here, and the gradient is as small as their rounding"
            return CheckResult.correct(COMPLEX_STEP, name, reason=reason, resolution=resolution)
        if measured.resolved and abs(numeric - analytic) > 2 * measured.allowed:
            reason = "the forward is not an analytic function of complex input: it contradicts finite differences"
            return CheckResult.not_applicable(COMPLEX_STEP, reason, name)
        if _erratic(varied, direction, (analytic - numeric) / size):
            reason = (
                f"rounding takes digits of the gradient of {name}: it is off by {difference / size:.1g} of its size"
            )
            return CheckResult.limit(COMPLEX_STEP, reason, name, resolution=resolution)
        reason = "the complex step disagrees by less than finite differences can confirm"
        return CheckResult.undecided(COMPLEX_STEP, reason, name, resolution=resolution)
    return CheckResult.wrong(
        COMPLEX_STEP,
        name,
        reason="the complex step and finite differences agree on another derivative",
        mismatch=Mismatch.of_projection(analytic, numeric, allowed, total=varied.x.numel()),
        margin=margin,
        resolution=resolution,
    )


def _erratic(varied: VariedOperand, direction: Tensor, error: float) -> bool:
    """Whether the relative error of the gradient is another one at points nearby, as that by rounding is.

    A sigmoid's 1 - s(x) has few digits left for large x. A formula that is wrong has the same error close by.
    """
    changed = 0
    for neighbor in range(constants.NEIGHBORS):
        value = varied.x * (1 + constants.NEIGHBOR_DISTANCE * varied.draw("neighbor", neighbor)).to(varied.x.dtype)
        values = {**varied.point.values, varied.name: value}
        try:
            point = point_with(varied.point.subject, values, varied.point.named_cotangents[0], differentiated=True)
        except SubjectError:
            continue
        near = replace(varied, point=point, row=0)
        step = _complex_step(near, direction) if point.finite is None else "not finite"
        if isinstance(step, str) or near.gradient is None or near.gradient.shape != value.shape:
            continue
        analytic, scale = directional(near.gradient, direction)
        size = max(scale, abs(step[0]))
        found = (analytic - step[0]) / size if size else 0.0
        changed += not abs(found - error) <= constants.ERRATIC_CHANGE * abs(error)
    return 2 * changed >= constants.NEIGHBORS


def _complex_step(varied: VariedOperand, direction: Tensor) -> tuple[float, float] | str:
    """<v, f'(x) u> by the complex step, and the rounding error of the sum; or why there is none."""
    point = varied.point
    values = {key: x.to(torch.complex128) if x.is_floating_point() else x for key, x in point.values.items()}
    x = values[varied.name]
    varied.context.require_time()
    moved = {**values, varied.name: torch.complex(x.real, constants.COMPLEX_STEP * direction.to(x.real.dtype))}
    try:
        outputs = point.subject.forward(moved)
    except SubjectError as error:
        return f"the forward takes no complex input: {error}"
    found = _flattened(outputs, point.named_outputs)
    if found is None:
        return "the forward drops the imaginary part of its input"
    tolerance = constants.SAME_VALUE * float(point.outputs.abs().max())
    if not bool(((found.real - point.outputs).abs() <= tolerance).all()) or not all_finite(found.imag):
        return "the forward gives other values for complex input"
    terms = varied.cotangent * (found.imag / constants.COMPLEX_STEP)
    return float(terms.sum()), constants.COMPLEX_ROUNDING * float(torch.linalg.vector_norm(terms))


def _flattened(outputs: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> Tensor | None:
    """The complex outputs as one vector; None if one is not complex, or has another shape than the real one."""
    parts = []
    for name, y in real.items():
        found = outputs.get(name)
        if found is None or not found.is_complex() or found.shape != y.shape:
            return None
        parts.append(found.resolve_conj().reshape(-1).to(torch.complex128))
    return torch.cat(parts)
