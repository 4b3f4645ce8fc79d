"""The complex step: a second, independent oracle, exact to rounding, for subjects whose forward takes complex input.

f(x + i h u) = f(x) + i h f'(x) u + O(h²), so the imaginary part over h is the derivative, with no difference to
lose digits in (Squire and Trapp 1998, "Using complex variables to estimate derivatives of real functions"). It
holds for forwards that are analytic functions of their input; `abs`, comparisons and conjugation are not, so a
disagreement counts only where finite differences disagree as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.comparison import Mismatch
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.derivative.confirmation import confirm
from nn_from_scratch.verify.derivative.linearization import LinearizationPoint, point_at, working_values
from nn_from_scratch.verify.derivative.measurements import measure
from nn_from_scratch.verify.derivative.probes import directional, directions
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.results import CheckResult

__all__ = ["COMPLEX_STEP", "check_complex_step"]

COMPLEX_STEP = "complex_step"
_STEP = 1e-20
_ROUNDINGS = 64.0
_SAME_VALUE = 1e-9


def check_complex_step(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Check the gradient of every differentiable tensor by the complex step.

    Args:
        subject: The subject.
        context: Seed, factor and deadline.

    Returns:
        One result for each differentiable tensor; not applicable where the forward takes no complex input, or is no
        analytic function of it.

    Raises:
        SubjectError: If the subject's forward raises.
    """
    operands = [slot for slot in subject.operands if slot.differentiable]
    if not operands:
        return [CheckResult.not_applicable(COMPLEX_STEP, "no tensor of the subject is differentiable")]
    values, why = working_values(subject)
    if why is not None:
        return [CheckResult.not_applicable(COMPLEX_STEP, why)]
    try:
        point = point_at(subject, values, context)
    except SubjectError as error:
        subject.forward(values)
        return [CheckResult.wrong(COMPLEX_STEP, reason=str(error))]
    if any(y.is_complex() for y in point.named_outputs.values()) or point.finite is not None:
        return [CheckResult.not_applicable(COMPLEX_STEP, "the output is complex, or not finite everywhere")]
    results = []
    for slot in operands:
        began = time.monotonic()
        context.require_time()
        result = _check_slot(point, slot.name, context)
        results.append(result.with_fields(seconds=time.monotonic() - began))
    return results


@dataclass(frozen=True, kw_only=True)
class _Step:
    """<v, f'(x) u> by the complex step, and the rounding error of the sum; or why there is none."""

    value: float = 0.0
    error: float = 0.0
    refusal: str | None = None


def _check_slot(point: LinearizationPoint, name: str, context: CheckContext) -> CheckResult:
    gradient = point.gradient(name, 0)
    x = point.values[name]
    if x.numel() == 0 or point.outputs.numel() == 0:
        return CheckResult.not_applicable(COMPLEX_STEP, "the tensor or the output has no entries", name)
    if gradient is None or gradient.shape != x.shape or not bool(torch.isfinite(gradient).all()):
        return CheckResult.not_applicable(
            COMPLEX_STEP, "the subject returned no finite gradient of the tensor's shape", name
        )
    direction = dict(directions(x, name, context, "complex"))["even"]
    step = _complex_step(point, name, direction)
    if step.refusal is not None:
        return CheckResult.not_applicable(COMPLEX_STEP, step.refusal, name)
    analytic, scale = directional(gradient, direction)
    allowed = context.factor * (step.error + _ROUNDINGS * torch.finfo(torch.float64).eps * scale)
    difference = abs(analytic - step.value)
    size = max(scale, abs(step.value))
    resolution = allowed / size if size else 0.0
    if difference <= allowed:
        return CheckResult.correct(
            COMPLEX_STEP, name, margin=difference / allowed if allowed else 0.0, resolution=resolution
        )
    measured = measure(point, name, "even", direction, context)
    if not confirm(measured, context).wrong:
        if measured.resolved and abs(step.value - analytic) > 2 * measured.allowed:
            reason = "the forward is no analytic function of complex input: it contradicts finite differences"
            return CheckResult.not_applicable(COMPLEX_STEP, reason, name)
        reason = "the complex step disagrees by less than finite differences can confirm"
        return CheckResult.undecided(COMPLEX_STEP, reason, name, resolution=resolution)
    projected = Mismatch(
        index=None, analytic=analytic, numeric=step.value, allowed=allowed, count=None, total=x.numel()
    )
    return CheckResult.wrong(
        COMPLEX_STEP,
        name,
        reason="the complex step and finite differences agree on another derivative",
        mismatch=projected,
        margin=difference / allowed if allowed else float("inf"),
        resolution=resolution,
    )


def _complex_step(point: LinearizationPoint, name: str, direction: Tensor) -> _Step:
    values = {key: _as_complex(value) for key, value in point.values.items()}
    x = values[name]
    moved = {**values, name: torch.complex(x.real, _STEP * direction.to(x.real.dtype))}
    try:
        outputs = point.subject.forward(moved)
        imaginary = _parts(outputs, point.named_outputs, imaginary=True)
        real = _parts(outputs, point.named_outputs, imaginary=False)
    except SubjectError as error:
        return _Step(refusal=f"the forward takes no complex input: {error}")
    if imaginary is None or real is None:
        return _Step(refusal="the forward drops the imaginary part of its input")
    tolerance = _SAME_VALUE * float(point.outputs.abs().max())
    if not bool(((real - point.outputs).abs() <= tolerance).all()) or not bool(torch.isfinite(imaginary).all()):
        return _Step(refusal="the forward gives other values for complex input")
    terms = point.cotangents[0] * (imaginary / _STEP)
    rounding = _ROUNDINGS * torch.finfo(torch.float64).eps * float(torch.linalg.vector_norm(terms))
    return _Step(value=float(terms.sum()), error=rounding)


def _as_complex(value: Tensor) -> Tensor:
    return value.to(torch.complex128) if value.is_floating_point() else value


def _parts(outputs: Mapping[str, Tensor], real: Mapping[str, Tensor], *, imaginary: bool) -> Tensor | None:
    parts = []
    for name, y in real.items():
        found = outputs.get(name)
        if found is None or not found.is_complex() or found.shape != y.shape:
            return None
        part = found.resolve_conj().imag if imaginary else found.resolve_conj().real
        parts.append(part.reshape(-1).to(torch.float64))
    return torch.cat(parts)
