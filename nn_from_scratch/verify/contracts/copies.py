"""A copy of a module computes the same, and the module can be pickled."""

from __future__ import annotations

import copy
import pickle

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline import fresh_gradients
from nn_from_scratch.verify.contracts.findings import Findings, contract, usable_baseline
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = ["copies"]


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
    findings = Findings(check, subject.slots)
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


def _try_pickling(subject: Subject, findings: Findings) -> None:
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
