"""What must not change gradients: another recording mode, frozen operands, a copy of the object."""

from __future__ import annotations

import copy
import pickle
from contextlib import AbstractContextManager, nullcontext

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import gradients_of
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.results import CheckResult


@contract(order=140)
def frozen_slots(collector: ComparisonCollector) -> list[CheckResult]:
    """Each operand frozen alone, and all but one: the remaining gradients stay what they are.

    Finds a backward that reads `needs_input_grad` wrongly, or that computes one gradient out of another.
    """
    subject = collector.subject
    if not subject.traits.freezable:
        return collector.not_applicable(
            f"a subject of the form {subject.form!r} is not told which gradients are wanted"
        )
    names = [operand.name for operand in collector.differentiable]
    if len(names) < 2:
        return collector.not_applicable("there is one differentiable tensor; nothing is left beside it")
    base = collector.base
    sets = [{name} for name in names[: constants.MOST_FROZEN]]
    if len(names) > 2:
        sets += [set(names) - {name} for name in names[: constants.MOST_FROZEN]]
    for frozen in sets:
        text = ", ".join(name for name in names if name in frozen)
        kept = [name for name in names if name not in frozen]
        try:
            found = gradients_of(subject.run(base.values, frozen=frozen), base.cotangents)
        except SubjectError as error:
            collector.limit(f"with {text} frozen: {error}")
            continue
        when = f"when {text} is frozen" if len(frozen) == 1 else f"when only {kept[0]} is differentiated"
        right = {name: base.gradients[name] for name in kept}
        collector.gradients({name: found[name] for name in kept}, right, when=when)
    return collector.close("nothing could be frozen")


@contract(order=150)
def without_recording(collector: ComparisonCollector) -> list[CheckResult]:
    """Under `no_grad` and `inference_mode` the value is that of a pass with recording; gradients stay right after."""
    base, subject = collector.base, collector.subject
    modes: tuple[tuple[str, AbstractContextManager[object]], ...] = (
        ("no_grad", nullcontext()),  # which is how `Subject.forward` calls
        ("inference_mode", torch.inference_mode()),
    )
    for mode, entered in modes:
        try:
            with entered:
                outputs = {name: y.clone() for name, y in subject.forward(base.values).items()}
        except SubjectError as error:
            collector.wrong(f"under {mode}: {error}")
            continue
        for name, y in base.outputs.items():
            if name not in outputs:
                collector.wrong(f"the output {name} is missing under {mode}", name)
                continue
            when = f"the value under {mode} differs from that of a pass with recording"
            collector.tensor(name, outputs[name].clone(), y, base.output_allowed(name), when=when)
        after = collector.vjp(base.cotangents)
        collector.gradients(after, base.gradients, when=f"after a forward under {mode}")
    return collector.close("no output was compared")


@contract(order=170)
def copies(collector: ComparisonCollector) -> list[CheckResult]:
    """`copy.deepcopy` gives an object with the same value and gradients, and `pickle` can write it.

    An object that cannot be copied or written is none that computes wrongly: that is a limit.
    Both follow the object's own `__reduce_ex__` and `__setstate__`, so the copy that is looked at is deepcopy's:
    nothing is ever unpickled here.
    """
    subject = collector.subject
    if not subject.traits.copies:
        return collector.not_applicable(f"a subject of the form {subject.form!r} has no state to copy")
    base = collector.base
    try:
        pickle.dumps(subject.target)
    except Exception as error:  # whatever the user's own __reduce__ raises
        if _unreachable(subject.target, error):
            collector.details["pickle"] = f"not tried: {error}"
        else:
            collector.limit(f"pickling {subject.name} raised {type(error).__name__}: {error}")
    try:
        twin = copy.deepcopy(subject.target)
    except Exception as error:  # whatever the user's own __reduce__ raises
        collector.limit(f"deepcopy of {subject.name} raised {type(error).__name__}: {error}")
        return collector.close("no copy could be made")
    try:
        found = gradients_of(subject.rebuilt(twin).run(base.values), base.cotangents)
    except SubjectError as error:
        collector.wrong(f"a copy by deepcopy does not work: {error}")
    else:
        collector.gradients(found, base.gradients, when="in a copy by deepcopy")
    return collector.close("no copy could be made")


def _unreachable(target: object, error: Exception) -> bool:
    """Whether pickle failed because no import finds the class (defined in a function, a script, a notebook)."""
    return isinstance(error, pickle.PicklingError | AttributeError) and (
        "<locals>" in str(error) or repr(type(target)) in str(error)
    )
