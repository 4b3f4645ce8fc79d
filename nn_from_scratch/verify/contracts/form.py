"""Shape, dtype and device of gradients; the forward value against a reference; both devices."""

from __future__ import annotations

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline import baseline, cloned
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract, usable_baseline
from nn_from_scratch.verify.protocol import Subject
from nn_from_scratch.verify.results import CheckContext, CheckResult
from nn_from_scratch.verify.subjects.structure import name_outputs

__all__ = ["gradient_form", "other_device", "reference_value"]


@contract("gradient_form")
def gradient_form(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """A gradient has the shape, the dtype and the device of what it is the gradient of."""
    check = "gradient_form"
    base = baseline(subject, context)
    if not base.cotangents:
        return [CheckResult.undecided(check, "no output is a real floating-point tensor")]
    findings = ComparisonCollector(check, subject.operands)
    for slot in subject.operands:
        gradient = base.gradients.get(slot.name)
        if gradient is None:
            continue
        for what, is_, should in (
            ("shape", tuple(gradient.shape), tuple(slot.value.shape)),
            ("dtype", gradient.dtype, slot.value.dtype),
            ("device", gradient.device, slot.value.device),
        ):
            if is_ != should:
                findings.wrong(f"the gradient has {what} {is_}, but {slot.name} has {should}", slot.name)
        findings.agreed()
    return findings.close("the subject returned no gradient at all")


@contract("reference_value")
def reference_value(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """The forward value is that of a reference, given as the option `reference`.

    The reference is called with the values of all operands in their order: the inputs, then the parameters.
    """
    check = "reference_value"
    reference = context.option("reference", None)
    if reference is None:
        return [CheckResult.not_applicable(check, "no reference was given")]
    base = baseline(subject, context)
    with torch.no_grad():
        expected = name_outputs(
            reference(*(base.values[slot.name].clone() for slot in subject.operands)), "the reference"
        )
    if expected.keys() != base.outputs.keys():
        reason = f"the outputs are {', '.join(base.outputs)}, those of the reference {', '.join(expected)}"
        return [CheckResult.wrong(check, reason=reason)]
    findings = ComparisonCollector(check, subject.operands)
    for name, y in base.outputs.items():
        allowed = 4 * base.output_allowed(name, context.factor)
        findings.tensor(
            name, y, expected[name].to(y.device), allowed, when="the forward value differs from the reference"
        )
    return findings.close("there is no output")


@contract("other_device")
def other_device(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """The values and gradients on a GPU are those on the CPU, up to rounding."""
    check = "other_device"
    if not subject.traits.devices:
        return [CheckResult.not_applicable(check, f"a {subject.form} on NumPy arrays lives on the CPU")]
    if not torch.cuda.is_available():
        return [CheckResult.not_applicable(check, "no GPU is available")]
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    devices = {slot.value.device.type for slot in subject.operands}
    there = torch.device("cuda" if devices == {"cpu"} else "cpu")
    values = {name: value.to(there) for name, value in base.values.items()}
    try:
        run = subject.run(values)
    except SubjectError as error:
        return [CheckResult.undecided(check, f"the forward does not run on {there.type}: {error}")]
    found = cloned(run.backward({name: c.to(there) for name, c in base.cotangents.items()}))
    findings = ComparisonCollector(check, subject.operands)
    home = {slot.name: slot.value.device for slot in subject.operands}
    for name, y in run.outputs.items():
        allowed = 4 * base.output_allowed(name, context.factor)
        findings.tensor(name, y.to(base.outputs[name].device), base.outputs[name], allowed, when="the value differs")
    moved = {name: None if g is None else g.to(home[name]) for name, g in found.items()}
    findings.gradients(
        moved, base.gradients, lambda name: 4 * base.allowed(name, context.factor), when=f"on {there.type}"
    )
    return findings.close("there is no gradient")
