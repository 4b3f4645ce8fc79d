"""A backward is linear in the cotangent, and an output without a cotangent counts as zero."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.verify.contracts.baseline import fresh_gradients, seeds_like
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract, usable_baseline
from nn_from_scratch.verify.protocol import Gradients, Subject
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = ["linear_cotangent", "missing_cotangent"]

# Powers of two, so that scaling by them is exact.
_SCALES = (2.0**12, 2.0**-12)


@contract("linear_cotangent")
def linear_cotangent(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """VJP(a u + b v) = a VJP(u) + b VJP(v), VJP(2^k u) = 2^k VJP(u), and VJP(0) = 0.

    Finds a cotangent that is ignored, clipped, thresholded or used twice.
    """
    check = "linear_cotangent"
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    findings = ComparisonCollector(check, subject.operands)
    u = base.cotangents
    v = seeds_like(base.outputs, context, check)
    vjp_u, vjp_v = base.gradients, fresh_gradients(subject, base.values, v)
    a, b = 0.75, -1.5

    def allowed(name: str) -> float:
        return 4 * base.allowed(name, context.factor)

    both = fresh_gradients(subject, base.values, {name: a * u[name] + b * v[name] for name in u})
    expected = {name: _combined(a, vjp_u[name], b, vjp_v[name]) for name in vjp_u}
    findings.gradients(both, expected, allowed, when="from a·VJP(u) + b·VJP(v) for the cotangent a·u + b·v")
    for scale in _SCALES:
        if any(c.dtype == torch.float16 for c in u.values()):
            break  # its range is too small for that
        scaled = fresh_gradients(subject, base.values, {name: c * scale for name, c in u.items()})
        back = {name: None if g is None else g / scale for name, g in scaled.items()}
        findings.gradients(back, vjp_u, allowed, when=f"when the cotangent is scaled by {scale:g} (and scaled back)")
    zero = fresh_gradients(subject, base.values, {name: torch.zeros_like(c) for name, c in u.items()})
    nothing: Gradients = dict.fromkeys(zero)
    findings.gradients(zero, nothing, lambda name: base.allowed(name, 1e-6), when="from zero for a cotangent of zeros")
    return findings.close("no cotangent was tried")


def _combined(a: float, u: Tensor | None, b: float, v: Tensor | None) -> Tensor | None:
    if u is None or v is None:
        return b * v if v is not None else None if u is None else a * u
    return a * u + b * v


@contract("missing_cotangent")
def missing_cotangent(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Where only some outputs are used, the others' cotangents are absent; that is the same as zeros."""
    check = "missing_cotangent"
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    if len(base.cotangents) < 2:
        return [CheckResult.not_applicable(check, "the subject has one differentiable output")]
    findings = ComparisonCollector(check, subject.operands)
    for kept, cotangent in base.cotangents.items():
        zeros = {name: cotangent if name == kept else torch.zeros_like(c) for name, c in base.cotangents.items()}
        findings.gradients(
            fresh_gradients(subject, base.values, {kept: cotangent}),
            fresh_gradients(subject, base.values, zeros),
            lambda name: base.allowed(name, context.factor),
            when=f"when {kept} alone has a cotangent, from cotangents of zeros for the other outputs",
        )
    return findings.close("no output was left out")
