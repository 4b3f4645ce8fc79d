"""The value is the same with and without gradient recording, and evaluation leaves training unharmed."""

from __future__ import annotations

import copy
import pickle
from contextlib import AbstractContextManager, nullcontext

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline import cloned, fresh_gradients
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract, usable_baseline
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = ["copies", "frozen_slots", "without_recording"]


@contract("without_recording")
def without_recording(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Under `no_grad` and `inference_mode` the value is that of a pass with recording; gradients stay right after."""
    check = "without_recording"
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    findings = ComparisonCollector(check, subject.operands)
    modes: tuple[tuple[str, AbstractContextManager[object]], ...] = (
        ("no_grad", nullcontext()),  # which is how `Subject.forward` calls
        ("inference_mode", torch.inference_mode()),
    )
    for mode, entered in modes:
        try:
            with entered:
                outputs = {name: y.clone() for name, y in subject.forward(base.values).items()}
        except SubjectError as error:
            findings.wrong(f"under {mode}: {error}")
            continue
        for name, y in base.outputs.items():
            if name not in outputs:
                findings.wrong(f"the output {name} is missing under {mode}", name)
                continue
            when = f"the value under {mode} differs from that of a pass with recording"
            findings.tensor(name, outputs[name].clone(), y, base.output_allowed(name, context.factor), when=when)
        after = fresh_gradients(subject, base.values, base.cotangents)
        findings.gradients(
            after,
            base.gradients,
            lambda name: base.allowed(name, context.factor),
            when=f"after a forward under {mode}",
        )
    return findings.close("no output was compared")


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
    names = [slot.name for slot in subject.operands if slot.differentiable]
    if len(names) < 2:
        return [CheckResult.not_applicable(check, "there is one differentiable tensor; nothing is left beside it")]
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    findings = ComparisonCollector(check, subject.operands)
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


@contract("copies")
def copies(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """`copy.deepcopy` gives an object with the same value and gradients, and `pickle` can write it.

    Both follow the object's own `__reduce_ex__` and `__setstate__`, so the copy that is looked at is deepcopy's:
    nothing is ever unpickled here.
    """
    check = "copies"
    if not subject.traits.copies:
        return [CheckResult.not_applicable(check, f"a subject of the form {subject.form!r} has no state to copy")]
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    findings = ComparisonCollector(check, subject.operands)
    _try_pickling(subject, findings)
    try:
        twin = copy.deepcopy(subject.target)
    except Exception as error:  # whatever the user's own __reduce__ raises
        findings.wrong(f"deepcopy of {subject.name} raised {type(error).__name__}: {error}")
        return findings.close("no copy could be made")
    try:
        found = fresh_gradients(subject.rebuilt(twin), base.values, base.cotangents)
    except SubjectError as error:
        findings.wrong(f"a copy by deepcopy does not work: {error}")
    else:
        findings.gradients(
            found, base.gradients, lambda name: base.allowed(name, context.factor), when="in a copy by deepcopy"
        )
    return findings.close("no copy could be made")


def _try_pickling(subject: Subject, findings: ComparisonCollector) -> None:
    try:
        pickle.dumps(subject.target)
    except Exception as error:  # whatever the user's own __reduce__ raises
        if _unreachable(subject.target, error):
            findings.details["pickle"] = f"not tried: {error}"
        else:
            findings.wrong(f"pickling {subject.name} raised {type(error).__name__}: {error}")


def _unreachable(target: object, error: Exception) -> bool:
    """Whether pickle failed because no import finds the class (defined in a function, a script, a notebook)."""
    return isinstance(error, pickle.PicklingError | AttributeError) and (
        "<locals>" in str(error) or repr(type(target)) in str(error)
    )
