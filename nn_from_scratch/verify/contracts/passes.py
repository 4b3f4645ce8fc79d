"""Several forward and backward passes that meet: nothing of one may leak into another."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline import (
    baseline,
    changed_values,
    cloned,
    fresh_gradients,
    seeds_like,
    zeros_for,
)
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract, usable_baseline
from nn_from_scratch.verify.protocol import Cotangents, Gradients, Run, Subject
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = ["accumulation", "backward_twice", "tensor_used_twice", "two_forwards"]


def _copy(cotangents: Cotangents) -> dict[str, Tensor]:
    return {name: c.clone() for name, c in cotangents.items()}


@contract("two_forwards")
def two_forwards(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Two forward passes, then both backwards in either order: each gradient is that of its own pass.

    Likewise with a forward without gradient recording (an evaluation) between a forward and its backward.
    """
    check = "two_forwards"
    if not subject.traits.several_pending:
        return [CheckResult.not_applicable(check, f"a subject of the form {subject.form!r} remembers one forward pass")]
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    values = changed_values(subject, context, base.values)
    if values is None:
        reason = "no other inputs were found at which the forward is finite"
        return [CheckResult.undecided(check, reason)]
    second = baseline(subject, context, "second", values=values)
    findings = ComparisonCollector(check, subject.operands)

    def allowed(name: str) -> float:
        return max(base.allowed(name, context.factor), second.allowed(name, context.factor))

    for order, text in (
        ((0, 1), "first backward first"),
        ((1, 0), "second backward first"),
        ((0,), "first backward only"),
    ):
        one = subject.run(base.values)
        two = subject.run(values, beside=one)
        for which in order:
            run, whole = ((one, base), (two, second))[which]
            found = cloned(run.backward(_copy(whole.cotangents)))
            name = ("first", "second")[which]
            when = f"of the {name} of two forward passes ({text}) from that of the same pass alone"
            findings.gradients(found, whole.gradients, allowed, when=when)
    one = subject.run(base.values)
    subject.forward(values)
    found = cloned(one.backward(_copy(base.cotangents)))
    findings.gradients(
        found, base.gradients, allowed, when="when a forward without recording comes before the backward"
    )
    return findings.close("no gradient was returned")


@contract("backward_twice")
def backward_twice(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Several backwards after one forward, with two cotangents in turn, each as after a forward of its own."""
    check = "backward_twice"
    if not subject.traits.backward_twice:
        return [
            CheckResult.not_applicable(
                check, f"a subject of the form {subject.form!r} may use up what the forward left"
            )
        ]
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    other = seeds_like(base.outputs, context, check)
    expected = fresh_gradients(subject, base.values, other)
    findings = ComparisonCollector(check, subject.operands)
    run = subject.run(base.values)
    for turn, (cotangents, right) in enumerate(
        ((base.cotangents, base.gradients), (other, expected), (base.cotangents, base.gradients)), start=1
    ):
        found = cloned(run.backward(_copy(cotangents)))
        when = f"in backward {turn} of 3 after one forward"
        findings.gradients(found, right, lambda name: 2 * base.allowed(name, context.factor), when=when)
    return findings.close("no gradient was returned")


@contract("accumulation")
def accumulation(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """A backward that leaves gradients in fields adds to what is there: `+=`, not `=`."""
    check = "accumulation"
    how = subject.traits.parameter_gradients
    if how != "adds":
        why = "the gradients are returned" if how == "returned" else "this layer overwrites its gradients, every one"
        return [CheckResult.not_applicable(check, why)]
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    parameters = [slot for slot in subject.operands if slot.role == "parameter" and slot.differentiable]
    if not parameters:
        return [CheckResult.not_applicable(check, "the subject has no parameters")]
    # As large as the gradient, so that the sum keeps its digits.
    held: dict[str, Tensor | None] = {}
    for slot in parameters:
        gradient = zeros_for(base.gradients, subject.operands)[slot.name]
        size = float(gradient.abs().max()) if gradient.numel() else 0.0
        drawn = context.signed(slot.value.shape, check, slot.name, dtype=slot.value.dtype, device=slot.value.device)
        held[slot.name] = drawn * (size or 1.0)
    onto = cloned(subject.run(base.values).backward_onto(_copy(base.cotangents), cloned(held)))
    findings = ComparisonCollector(check, subject.operands)
    for slot in parameters:
        start, total = held[slot.name], onto[slot.name]
        alone = zeros_for(base.gradients, subject.operands)[slot.name]
        if start is None:
            continue
        if total is None:
            findings.wrong(f"the gradient that {slot.name} held before the backward is gone after it", slot.name)
            continue
        when = "gradient held before + gradient of this backward is not what the parameter holds after it"
        allowed = 2 * base.allowed(slot.name, context.factor)
        findings.tensor(slot.name, total, start + alone, allowed, when=when)
    return findings.close("no parameter has a gradient")


@contract("tensor_used_twice")
def tensor_used_twice(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """One tensor goes through the subject twice, and one backward goes through both uses: the gradients add up."""
    check = "tensor_used_twice"
    if not subject.traits.several_pending:
        return [CheckResult.not_applicable(check, f"a subject of the form {subject.form!r} remembers one forward pass")]
    if subject.form == "pair":
        return [CheckResult.not_applicable(check, "nothing sums the gradients of several calls of a pair")]
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    other = seeds_like(base.outputs, context, check)
    first, second = base.gradients, fresh_gradients(subject, base.values, other)
    one = subject.run(base.values)
    two = _again(subject, one)
    found = cloned(subject.backward_together([one, two], [_copy(base.cotangents), _copy(other)]))
    findings = ComparisonCollector(check, subject.operands)
    expected = _sum(zeros_for(first, subject.operands), zeros_for(second, subject.operands))
    findings.gradients(
        found,
        expected,
        lambda name: 4 * base.allowed(name, context.factor),
        when="from the sum over both uses of the same tensors",
    )
    return findings.close("no gradient was returned")


def _again(subject: Subject, one: Run) -> Run:
    try:
        return subject.run({}, beside=one)
    except SubjectError as error:
        raise SubjectError(f"a second forward on the same tensors fails: {error}") from error


def _sum(a: dict[str, Tensor], b: dict[str, Tensor]) -> Gradients:
    return {name: torch.add(a[name], b[name]) for name in a}
