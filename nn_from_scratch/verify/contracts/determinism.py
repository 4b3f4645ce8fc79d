"""Identical passes give identical gradients."""

from __future__ import annotations

from nn_from_scratch.verify.contracts.baseline import baseline, fresh_gradients, rounding, zeros_for
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.protocol import Subject, starting_values
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = ["determinism"]

_PASSES = 3
_MOST_ROUNDINGS = 1e3


@contract("determinism")
def determinism(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Passes with the same values and cotangents give the same outputs and gradients.

    The tolerance is rounding in another order, as measured on the subject; the option `nondeterminism`
    (relative to the largest entry of a gradient) replaces it. A forward that differs is undecided: a random
    draw is no fault, but no gradient can be verified through it.
    """
    check = "determinism"
    values = starting_values(subject)
    first = subject.forward(values)
    for _ in range(_PASSES - 1):
        for name, y in subject.forward(values).items():
            if y.shape != first[name].shape:
                return [CheckResult.undecided(check, f"nondeterministic: {name} has another shape in the next pass")]
            same = (y == first[name]) | ((y != y) & (first[name] != first[name]))
            if not bool(same.all()):
                moved = float((y - first[name]).abs().max())
                reason = f"nondeterministic: two identical forward passes differ by up to {moved:.2g} in {name}"
                return [CheckResult.undecided(check, reason)]
    base = baseline(subject, context)
    if not base.cotangents:
        return [CheckResult.undecided(check, "no output is a real floating-point tensor")]
    tolerance = context.option("nondeterminism", None)
    findings = ComparisonCollector(check, subject.operands)
    right = zeros_for(base.gradients, subject.operands)
    levels: dict[str, float] = {}

    def allowed(name: str) -> float:
        if tolerance is None:
            # What rounding was measured to do holds the nondeterminism itself, so it is not believed without
            # limit.
            return min(base.allowed(name, context.factor), _MOST_ROUNDINGS * rounding(right[name]))
        return float(tolerance) * (float(right[name].abs().max()) if right[name].numel() else 0.0)

    for _ in range(_PASSES - 1):
        again = zeros_for(fresh_gradients(subject, base.values, base.cotangents), subject.operands)
        findings.gradients(again, right, allowed, when="between two identical passes")
        for name, gradient in again.items():
            if gradient.shape == right[name].shape and gradient.numel():
                moved = float((gradient - right[name]).abs().nan_to_num().max())
                levels[name] = max(levels.get(name, 0.0), moved)
    findings.details["largest difference between passes"] = levels
    stated = (
        f"rounding as measured, at most {_MOST_ROUNDINGS:g} roundings of the largest entry"
        if tolerance is None
        else f"{tolerance:g} of the largest entry"
    )
    findings.details["tolerance"] = stated
    return findings.close("the subject returned no gradient")
