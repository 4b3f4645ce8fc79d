"""Gradients that nobody asks for: a slot that is frozen must not change the others' gradients."""

from __future__ import annotations

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline import cloned
from nn_from_scratch.verify.contracts.findings import Findings, contract, usable_baseline
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = ["frozen_slots"]

_MOST = 8


@contract("frozen_slots")
def frozen_slots(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Each slot frozen alone, and all but one: the remaining gradients stay what they are.

    Finds a backward that reads `needs_input_grad` wrongly, or that computes one gradient out of another.
    """
    check = "frozen_slots"
    if not subject.traits.freezable:
        return [
            CheckResult.not_applicable(
                check, f"a subject of the form {subject.form!r} is not told which gradients are wanted"
            )
        ]
    names = [slot.name for slot in subject.slots if slot.differentiable]
    if len(names) < 2:
        return [CheckResult.not_applicable(check, "there is one differentiable tensor; nothing is left beside it")]
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    findings = Findings(check, subject.slots)
    sets = [{name} for name in names[:_MOST]]
    if len(names) > 2:
        sets += [set(names) - {name} for name in names[:_MOST]]
    for frozen in sets:
        text = ", ".join(name for name in names if name in frozen)
        kept = [name for name in names if name not in frozen]
        try:
            run = subject.run(base.values, frozen=frozen)
            found = cloned(run.backward({name: c.clone() for name, c in base.cotangents.items()}))
        except SubjectError as error:
            findings.wrong(f"with {text} frozen: {error}")
            continue
        findings.gradients(
            {name: found[name] for name in kept},
            {name: base.gradients[name] for name in kept},
            lambda name: base.allowed(name, context.factor),
            when=f"when {text} is frozen" if len(frozen) == 1 else f"when only {kept[0]} is differentiated",
        )
    return findings.close("nothing could be frozen")
