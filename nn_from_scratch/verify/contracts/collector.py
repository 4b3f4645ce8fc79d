"""Gradients held against what they should be, turned into results."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline import (
    Baseline,
    ContractCheck,
    baseline,
    fresh_gradients,
    is_finite,
    zeros_for,
)
from nn_from_scratch.verify.protocol import Gradients, Operand, Subject
from nn_from_scratch.verify.results import CheckContext, CheckResult, compare

__all__ = ["ComparisonCollector", "bitwise_equal", "contract", "same_layout", "usable_baseline"]


@dataclass
class ComparisonCollector:
    """Collects comparisons of one check; the worst of each tensor becomes its result.

    Attributes:
        check: The check's name.
        operands: The subject's operands, for the shape of a gradient that is None.
        results: What is wrong, by tensor.
        margin: The largest |difference| / allowed of all comparisons.
        compared: How many comparisons were made.
        details: Passed on to the results.
    """

    check: str
    operands: tuple[Operand, ...]
    results: dict[str | None, CheckResult] = field(default_factory=dict)
    margin: float = 0.0
    compared: int = 0
    details: dict[str, object] = field(default_factory=dict)

    def gradients(self, found: Gradients, expected: Gradients, allowed: Callable[[str], float], *, when: str) -> None:
        """Compare gradients entry by entry; None and zeros agree.

        Args:
            found: what the subject gave.
            expected: what is right.
            allowed: the largest |difference| for a slot.
            when: completes the sentence "the gradient differs ...".
        """
        got, right = zeros_for(found, self.operands), zeros_for(expected, self.operands)
        for name in right:
            self.tensor(name, got[name], right[name], allowed(name), when=f"the gradient differs {when}")

    def tensor(self, name: str | None, found: Tensor, expected: Tensor, allowed: float, *, when: str) -> None:
        """Compare one tensor; `when` is the whole reason."""
        self.compared += 1
        if found.shape != expected.shape:
            reason = f"{when}: its shape is {tuple(found.shape)} instead of {tuple(expected.shape)}"
            self.results.setdefault(name, CheckResult.wrong(self.check, name, reason=reason))
            return
        comparison = compare(found, expected, allowed)
        self.margin = max(self.margin, comparison.margin)
        before = self.results.get(name)
        if comparison.mismatch is not None and (before is None or (before.margin or 0.0) < comparison.margin):
            self.results[name] = CheckResult.wrong(
                self.check, name, reason=when, mismatch=comparison.mismatch, margin=comparison.margin
            )

    def wrong(self, reason: str, tensor: str | None = None) -> None:
        """Something is wrong that no numbers show."""
        self.compared += 1
        self.results.setdefault(tensor, CheckResult.wrong(self.check, tensor, reason=reason))

    def agreed(self) -> None:
        """A property without numbers holds."""
        self.compared += 1

    def close(self, nothing: str, *, reason: str | None = None) -> list[CheckResult]:
        """The results.

        Args:
            nothing: why nothing was compared, if nothing was; the check is undecided then.
            reason: what to say beside a correct verdict.
        """
        if self.results:
            return [r.with_fields(details={**r.details, **self.details}) for r in self.results.values()]
        if self.compared == 0:
            return [CheckResult.undecided(self.check, nothing, details=self.details)]
        return [CheckResult.correct(self.check, margin=self.margin, reason=reason, details=self.details)]


def contract(name: str) -> Callable[[Callable[[Subject, CheckContext], list[CheckResult]]], ContractCheck]:
    """Name a check, and turn what the subject raises in it into a finding.

    Args:
        name: the check's name in results.
    """

    def decorate(check: Callable[[Subject, CheckContext], list[CheckResult]]) -> ContractCheck:
        @functools.wraps(check)
        def guarded(subject: Subject, context: CheckContext) -> list[CheckResult]:
            try:
                return check(subject, context)
            except SubjectError as error:
                return [CheckResult.wrong(name, reason=str(error))]

        return guarded

    return decorate


def usable_baseline(subject: Subject, context: CheckContext, check: str) -> Baseline | list[CheckResult]:
    """The baseline, or why there is none that anything can be compared with.

    Raises:
        SubjectError: the subject raised.
    """
    if not any(slot.differentiable for slot in subject.operands):
        return [CheckResult.undecided(check, "no input and no parameter is a real floating-point tensor")]
    base = baseline(subject, context)
    if not base.cotangents:
        return [CheckResult.undecided(check, "no output is a real floating-point tensor")]
    if not is_finite(base.outputs):
        return [CheckResult.undecided(check, "the forward value is not finite at the given inputs")]
    if not is_finite(base.gradients):
        bad = ", ".join(n for n, g in base.gradients.items() if g is not None and not is_finite({n: g}))
        reason = f"the gradient of {bad} holds NaN or infinity although the forward value is finite"
        return [CheckResult.undecided(check, reason)]
    again = fresh_gradients(subject, base.values, base.cotangents)
    for name, gradient in zeros_for(base.gradients, subject.operands).items():
        other = zeros_for(again, subject.operands)[name]
        if gradient.shape != other.shape:
            return [CheckResult.wrong(check, name, reason="two identical passes give gradients of two shapes")]
        moved = float((gradient - other).abs().max()) if gradient.numel() else 0.0
        if moved > base.allowed(name, context.factor) and moved > _level(gradient):
            reason = f"nondeterministic: two identical passes differ by up to {moved:.2g} in the gradient of {name}"
            return [CheckResult.undecided(check, reason)]
    return base


def _level(gradient: Tensor) -> float:
    """A thousandth of the largest entry: less than that is rounding in another order, which the noise covers."""
    return 1e-3 * float(gradient.abs().max()) if gradient.numel() else 0.0


def same_layout(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same shape, strides and dtype."""
    return a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype


def bitwise_equal(a: Tensor, b: Tensor) -> bool:
    """Equality in which NaN equals NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.is_floating_point() or a.is_complex():
        bad, other = a.isnan(), b.isnan()
        return bool(torch.equal(bad, other) and torch.equal(a.masked_fill(bad, 0), b.masked_fill(other, 0)))
    return bool(torch.equal(a, b))
