"""The same backward in float32, bfloat16 and float16, against itself in float64 on the same rounded inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline import cloned, is_finite, rounding_noise, seeds_like
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Subject, starting_values
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = ["low_precision"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# A subject that rounds after every operation is off by more than one rounding of its inputs explains; how
# much more
# is measured on its forward, and the backward is granted as much. Beyond this the forward is another function
# in that
# dtype (an ε that depends on the dtype), or has no digit left, and there is nothing to compare with.
_MOST_FORWARD_LOSS = 64.0
# Of the context's factor: an estimate of rounding is closer than one of a truncation error.
_SHARE = 0.4


@dataclass(frozen=True, eq=False, kw_only=True)
class _Pass:
    outputs: Mapping[str, Tensor]
    gradients: Gradients


def _underflows(x: Tensor, dtype: torch.dtype) -> bool:
    largest = float(x.abs().max()) if x.numel() else 0.0
    return 0 < largest < torch.finfo(dtype).tiny


def _cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}


def _pass(subject: Subject, values: Mapping[str, Tensor], cotangents: Cotangents) -> _Pass:
    run = subject.run(values)
    outputs = {name: y.detach().clone() for name, y in run.outputs.items()}
    seeds = {name: c.to(outputs[name].dtype) for name, c in cotangents.items()}
    return _Pass(outputs=outputs, gradients=cloned(run.backward(seeds)))


@contract("low_precision")
def low_precision(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """In each low dtype the gradient is that of float64 on the same rounded inputs, up to what rounding explains.

    The bound is measured, in the largest entry of each tensor: how far one rounding of the inputs and the
    cotangent to that dtype moves the float64 gradient, plus one rounding of the gradient itself; times how
    much more than that the subject's forward loses in the same dtype; times 0.4 of the context's factor.
    """
    check = "low_precision"
    if not subject.traits.dtypes:
        return [CheckResult.not_applicable(check, f"this {subject.form} has one dtype")]
    start = starting_values(subject)
    if not any(slot.differentiable for slot in subject.operands):
        return [CheckResult.undecided(check, "no input and no parameter is a real floating-point tensor")]
    findings = ComparisonCollector(check, subject.operands)
    skipped: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for dtype in _DTYPES:
        name = str(dtype).removeprefix("torch.")
        lost = [n for n, x in start.items() if x.is_floating_point() and _underflows(x, dtype)]
        if lost:
            skipped[name] = f"{', '.join(lost)} underflows"
            continue
        low_values = _cast(start, dtype)
        exact = _cast(low_values, torch.float64)
        try:
            shape_of = subject.run(exact).outputs
        except SubjectError as error:
            return [CheckResult.undecided(check, f"there is no float64 to compare with: {error}")]
        if any(y.is_floating_point() and y.dtype != torch.float64 for y in shape_of.values()):
            return [CheckResult.undecided(check, "the forward does not compute in float64 on float64 inputs")]
        cotangents = _cast(_cast(seeds_like(shape_of, context, check, name), dtype), torch.float64)
        try:
            run = subject.forward(low_values)
        except SubjectError as error:
            skipped[name] = f"the forward does not run: {error}"
            continue
        wide = [n for n, y in run.items() if n in cotangents and y.dtype != dtype]
        if wide and all(run[n].dtype == torch.float64 for n in wide):
            reasons[name] = "computes in float64 whatever its inputs are"
        right = _pass(subject, exact, cotangents)
        if not is_finite(right.outputs) or not is_finite(right.gradients):
            skipped[name] = "the float64 value or gradient is not finite"
            continue
        low = _pass(subject, low_values, cotangents)
        _compare(subject, context, findings, dtype, exact, cotangents, right, low, skipped)
    if skipped:
        findings.details["not run"] = skipped
    if reasons:
        findings.details["dtypes"] = reasons
    return findings.close(f"no low dtype could be run ({'; '.join(f'{n}: {why}' for n, why in skipped.items())})")


def _compare(
    subject: Subject,
    context: CheckContext,
    findings: ComparisonCollector,
    dtype: torch.dtype,
    exact: Mapping[str, Tensor],
    cotangents: Cotangents,
    right: _Pass,
    low: _Pass,
    skipped: dict[str, str],
) -> None:
    info = torch.finfo(dtype)
    name = str(dtype).removeprefix("torch.")
    noise = _noise(subject, context, exact, cotangents, right, info.eps)

    def explained(key: str, tensor: Tensor) -> float:
        largest = float(tensor.abs().max()) if tensor.numel() else 0.0
        return noise.get(key, 0.0) + info.eps * largest + info.tiny * info.eps

    loss = 1.0
    for output, y in right.outputs.items():
        if output not in cotangents or not y.numel():
            continue
        level = float((low.outputs[output].double() - y).abs().max())
        if not math.isfinite(level):
            skipped[name] = f"the value of {output} overflows"
            return
        if _underflows(y, dtype):
            skipped[name] = f"the value of {output} underflows"
            return
        loss = max(loss, level / explained(f"output {output}", y))
    if loss > _MOST_FORWARD_LOSS:
        skipped[name] = f"the forward value is off by {loss:.0f} times what rounding explains"
        return
    for slot, gradient in right.gradients.items():
        found = low.gradients[slot]
        if gradient is None or found is None:
            if (gradient is None) != (found is None):
                findings.wrong(
                    f"in {name} the gradient is {'missing' if found is None else 'there'}, unlike float64",
                    slot,
                )
            continue
        if gradient.numel() and float(gradient.abs().max()) > torch.finfo(dtype).max / 4:
            continue  # it does not fit, and says so by being infinite
        allowed = _SHARE * context.factor * loss * explained(slot, gradient)
        when = f"the {name} gradient differs from the float64 one on the same rounded inputs"
        findings.tensor(slot, found.double(), gradient, allowed, when=when)


def _noise(
    subject: Subject,
    context: CheckContext,
    exact: Mapping[str, Tensor],
    cotangents: Cotangents,
    right: _Pass,
    eps: float,
) -> dict[str, float]:
    """The larger of two estimates: rounding the inputs to the low dtype, and what rounding does inside in float64."""
    finest = torch.finfo(torch.float64).eps
    coarse, fine = (
        rounding_noise(subject, exact, cotangents, right.outputs, right.gradients, context, eps=size)
        for size in (eps, finest)
    )
    return {name: max(coarse.get(name, 0.0), level * eps / finest) for name, level in fine.items()} | {
        name: level for name, level in coarse.items() if name not in fine
    }
