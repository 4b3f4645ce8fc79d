"""Contract checks register here; each compares gradients with what they should be and collects results."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify.comparison import compare
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import (
    BaselinePass,
    baseline_pass,
    draw_cotangents,
    gradients_of,
    is_finite,
    largest_entry,
)
from nn_from_scratch.verify.contracts.validity import is_hand_written
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Operand, Subject, Values
from nn_from_scratch.verify.results import CheckResult, Verdict

ContractCheck = Callable[[Subject, CheckContext], list[CheckResult]]

CONTRACTS: dict[str, ContractCheck] = {}
"""The contract checks by name, in the order in which they run."""
ELSEWHERE: set[str] = set()
"""Those that look at other inputs than the given ones."""
_ORDER: dict[str, float] = {}


class _Concluded(Exception):  # noqa: N818  not an error: there is nothing to compare with
    """Ends a check with results."""


@dataclass
class ComparisonCollector:
    """One contract check on one subject: what it compares with, and what it found.

    The worst comparison of each tensor becomes its result.

    Attributes:
        context: Seed, level, factor, options and deadline.
        elsewhere: Whether it looks at other inputs than the given ones: a difference there is fragile and not wrong.
        results: What is wrong or fragile, by tensor.
        limits: What the subject does not take.
        margin: The largest |difference| / allowed of all comparisons.
        compared: How many comparisons were made.
        details: Passed on to the results.
    """

    check: str
    subject: Subject
    context: CheckContext
    elsewhere: bool = False
    results: dict[str | None, CheckResult] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)
    margin: float = 0.0
    compared: int = 0
    details: dict[str, object] = field(default_factory=dict)

    @property
    def differentiable(self) -> list[Operand]:
        """The operands that have a gradient."""
        return [operand for operand in self.subject.operands if operand.differentiable]

    @property
    def inputs(self) -> list[Operand]:
        """The operands that are handed over in a call."""
        return [operand for operand in self.subject.operands if operand.role == "input"]

    @functools.cached_property
    def base(self) -> BaselinePass:
        """The baseline. The check ends, and says why, where nothing can be compared with it."""
        if not self.differentiable:
            raise _Concluded(self.not_applicable("no input and no parameter is a real floating-point tensor"))
        try:
            base = baseline_pass(self.subject, self.context)
        except SubjectError as error:
            if not self.elsewhere:
                raise
            raise _Concluded(self.undecided(f"there is nothing to compare with: {error}")) from error
        if not base.cotangents:
            raise _Concluded(self.not_applicable("no output is a real floating-point tensor"))
        if not is_finite(base.outputs):
            raise _Concluded(self.not_applicable("the forward value is not finite at the given inputs"))
        for operand in self.subject.operands:
            gradient = base.gradients.get(operand.name)
            if gradient is not None and gradient.shape != operand.value.shape:
                shape = f"its shape is {list(gradient.shape)}, which should be {list(operand.value.shape)}"
                reason = f"the gradient of {operand.name} cannot be compared with another one: {shape}"
                raise _Concluded(self.not_applicable(reason))
        if not is_finite(base.gradients):
            bad = ", ".join(n for n, g in base.gradients.items() if not is_finite({n: g}))
            reason = f"the gradient of {bad} holds NaN or infinity, with which nothing can be compared"
            raise _Concluded(self.not_applicable(reason))
        again = self.filled(gradients_of(self.subject.run(base.values), base.cotangents))
        for name, gradient in self.filled(base.gradients).items():
            if gradient.shape != again[name].shape:
                reason = "two identical passes give gradients of different shapes"
                raise _Concluded([CheckResult.wrong(self.check, name, reason=reason)])
            moved = largest_entry(gradient - again[name])
            if moved > max(base.allowed(name), constants.USABLE_NONDETERMINISM * largest_entry(gradient)):
                reason = f"nondeterministic: two identical passes differ by up to {moved:.2g} in the gradient of {name}"
                raise _Concluded(self.undecided(reason))
        return base

    def vjp(self, cotangents: Cotangents, values: Values | None = None) -> dict[str, Tensor | None]:
        """Copies of the gradients of a new run, at the values of the baseline or others."""
        return gradients_of(self.subject.run(self.base.values if values is None else values), cotangents)

    def other_cotangents(self) -> dict[str, Tensor]:
        """Signed cotangents, other ones than the baseline's."""
        return draw_cotangents(self.base.outputs, self.context, self.check)

    def filled(self, gradients: Gradients) -> dict[str, Tensor]:
        """The gradients, with zeros of the operand's shape where there are none."""
        values = {operand.name: operand.value for operand in self.subject.operands}
        return {name: torch.zeros_like(values[name]) if g is None else g for name, g in gradients.items()}

    def gradients(
        self,
        found: Gradients,
        expected: Gradients,
        *,
        when: str,
        times: float = 1.0,
        base: BaselinePass | None = None,
        allowed: Callable[[str], float] | None = None,
    ) -> None:
        """Compare gradients entry by entry; None and zeros agree.

        Args:
            when: completes the sentence "the gradient differs ...".
            times: how many allowances of the baseline the difference may be.
            base: the baseline, where it is another one.
            allowed: the largest |difference| for an operand, where it is not the baseline's.
        """
        limit = allowed or (base or self.base).allowed
        got = self.filled(found)
        for name, right in self.filled(expected).items():
            self.tensor(name, got[name], right, times * limit(name), when=f"the gradient differs {when}")

    def tensor(self, name: str | None, found: Tensor, expected: Tensor, allowed: float, *, when: str) -> None:
        """Compare one tensor, or something of the whole subject (None); `when` is the whole reason."""
        self.compared += 1
        if found.shape != expected.shape:
            reason = f"{when}: its shape is {tuple(found.shape)} instead of {tuple(expected.shape)}"
            self.results.setdefault(name, self._found(name, reason))
            return
        comparison = compare(found, expected, allowed)
        self.margin = max(self.margin, comparison.margin)
        before = self.results.get(name)
        if comparison.mismatch is not None and (before is None or (before.margin or 0.0) < comparison.margin):
            self.results[name] = self._found(name, when, mismatch=comparison.mismatch, margin=comparison.margin)

    def wrong(self, reason: str, tensor: str | None = None) -> None:
        """Something is wrong, or fragile in a check that looks elsewhere, that no numbers show."""
        self.compared += 1
        self.results.setdefault(tensor, self._found(tensor, reason))

    def limit(self, reason: str) -> None:
        """The subject does not take something that was not given, or no computation could."""
        if reason not in self.limits:
            self.limits.append(reason)

    def _found(self, tensor: str | None, reason: str, **numbers: Any) -> CheckResult:
        if self.elsewhere:
            return CheckResult.fragile(self.check, reason, tensor, **numbers)
        return CheckResult.wrong(self.check, tensor, reason=reason, **numbers)

    def agreed(self) -> None:
        """A property without numbers holds."""
        self.compared += 1

    def undecided(self, reason: str) -> list[CheckResult]:
        """The results of a check that cannot decide; one that looks elsewhere does not apply then."""
        if self.elsewhere:
            return self.not_applicable(reason)
        return [CheckResult.undecided(self.check, reason, details=self.details)]

    def not_applicable(self, reason: str) -> list[CheckResult]:
        """The results of a check that makes no sense for this subject."""
        return [CheckResult.not_applicable(self.check, reason, details=self.details)]

    def close(self, nothing: str, *, reason: str | None = None) -> list[CheckResult]:
        """The results.

        Args:
            nothing: why nothing was compared, if nothing was; the check is undecided then.
            reason: what to say beside a correct verdict.
        """
        found = [r.with_fields(details={**r.details, **self.details}) for r in self.results.values()]
        if not found and self.compared:
            found = [CheckResult.correct(self.check, margin=self.margin, reason=reason, details=self.details)]
        found += [CheckResult.limit(self.check, limit, details=self.details) for limit in self.limits]
        return found or self.undecided(nothing)


def contract(
    *, order: float, elsewhere: bool = False, torch_limits: bool = False
) -> Callable[[Callable[[ComparisonCollector], list[CheckResult]]], ContractCheck]:
    """Register a function as the contract check of its name.

    What the subject raises in it is wrong; elsewhere than at the given inputs it is a limit.

    Args:
        order: its place among the checks; they run in ascending order.
        elsewhere: whether it looks at other inputs than the given ones.
        torch_limits: whether what it finds is a limit where all of the backward is PyTorch's own, and there is no
            reference: its derivatives at degenerate points are conventions, and none of the user's.

    Raises:
        ArgumentError: there is a check of that name already.
    """

    def register(check: Callable[[ComparisonCollector], list[CheckResult]]) -> ContractCheck:
        name = check.__name__

        def guarded(subject: Subject, context: CheckContext) -> list[CheckResult]:
            try:
                found = check(ComparisonCollector(name, subject, context, elsewhere))
                fragile = any(result.verdict is Verdict.FRAGILE for result in found)
                if torch_limits and fragile and context.option("reference", None) is None:
                    return found if is_hand_written(subject) else [_limited(result) for result in found]
                return found
            except _Concluded as concluded:
                results: list[CheckResult] = concluded.args[0]
                return results
            except SubjectError as error:
                if elsewhere:
                    return [CheckResult.limit(name, str(error))]
                return [CheckResult.wrong(name, reason=str(error))]

        guarded.__doc__ = check.__doc__
        if name in CONTRACTS:
            raise ArgumentError(f"the contract check is called {name!r}, but a name that no other one has is expected")
        CONTRACTS[name], _ORDER[name] = guarded, order
        if elsewhere:
            ELSEWHERE.add(name)
        for known in sorted(CONTRACTS, key=_ORDER.__getitem__):
            CONTRACTS[known] = CONTRACTS.pop(known)
        return guarded

    return register


def _limited(result: CheckResult) -> CheckResult:
    """The same result, with what is fragile as a limit."""
    if result.verdict is not Verdict.FRAGILE:
        return result
    reason = f"{result.reason}; all of the backward is PyTorch's own"
    return result.with_fields(verdict=Verdict.LIMIT, reason=reason)


def same_layout(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same shape, strides and dtype."""
    return a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype


def bitwise_equal(a: Tensor, b: Tensor) -> bool:
    """Equality in which NaN equals NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype == torch.complex32:  # next to nothing is implemented for it
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    if a.is_floating_point() or a.is_complex():
        bad, other = a.isnan(), b.isnan()
        return bool(torch.equal(bad, other) and torch.equal(a.masked_fill(bad, 0), b.masked_fill(other, 0)))
    return bool(torch.equal(a, b))
