"""Shape, dtype and device of gradients; the forward value against a reference; both devices."""

from __future__ import annotations

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import baseline_pass, gradients_of
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.results import CheckResult
from nn_from_scratch.verify.subjects.structure import name_outputs


@contract(order=10)
def reference_value(collector: ComparisonCollector) -> list[CheckResult]:
    """The forward value is that of a reference, given as the option `reference`.

    The reference is called with the values of all operands in their order: the inputs, then the parameters.
    """
    reference = collector.context.option("reference", None)
    if reference is None:
        return collector.not_applicable("no reference was given")
    base = baseline_pass(collector.subject, collector.context)
    with torch.no_grad():
        values = (base.values[operand.name].clone() for operand in collector.subject.operands)
        try:
            expected = name_outputs(reference(*values), "the reference")
        except Exception as error:  # whatever the user's own function raises
            return collector.undecided(f"the reference raised {type(error).__name__}: {error}")
    if expected.keys() != base.outputs.keys():
        collector.wrong(f"the outputs are {', '.join(base.outputs)}, those of the reference {', '.join(expected)}")
        return collector.close("there is no output")
    for name, y in base.outputs.items():
        allowed = constants.COMBINED * base.output_allowed(name)
        when = "the forward value differs from the reference"
        collector.tensor(name, y, expected[name].to(y.device), allowed, when=when)
    return collector.close("there is no output")


@contract(order=30)
def gradient_form(collector: ComparisonCollector) -> list[CheckResult]:
    """A gradient has the shape, the dtype and the device of what it is the gradient of."""
    base = baseline_pass(collector.subject, collector.context)
    if not base.cotangents or not collector.differentiable:
        return collector.not_applicable("no real floating-point tensor goes in or comes out")
    for operand in collector.subject.operands:
        gradient = base.gradients.get(operand.name)
        if gradient is None:
            continue
        for what, is_, should in (
            ("shape", tuple(gradient.shape), tuple(operand.value.shape)),
            ("dtype", gradient.dtype, operand.value.dtype),
            ("device", gradient.device, operand.value.device),
        ):
            if is_ != should:
                collector.wrong(f"the gradient has {what} {is_}, but {operand.name} has {should}", operand.name)
        collector.agreed()
    if not collector.compared:
        return collector.not_applicable("the subject returned no gradient at all")
    return collector.close("the subject returned no gradient at all")


@contract(order=230, elsewhere=True)
def other_device(collector: ComparisonCollector) -> list[CheckResult]:
    """The values and gradients on a GPU are those on the CPU, up to rounding."""
    subject = collector.subject
    if not subject.traits.devices:
        return collector.not_applicable(f"a {subject.form} on NumPy arrays lives on the CPU")
    if not torch.cuda.is_available():
        return collector.not_applicable("no GPU is available")
    base = collector.base
    home = {operand.name: operand.value.device for operand in subject.operands}
    there = torch.device("cuda" if {device.type for device in home.values()} == {"cpu"} else "cpu")
    try:
        run = subject.run({name: value.to(there) for name, value in base.values.items()})
    except SubjectError as error:
        return collector.not_applicable(f"the forward does not run on {there.type}: {error}")
    if not base.has_outputs(run.outputs, times=constants.COMBINED):
        collector.limit(f"on {there.type} the value differs")
        return collector.close("the value differs")
    found = gradients_of(run, {name: c.to(there) for name, c in base.cotangents.items()})
    moved = {name: None if g is None else g.to(home[name]) for name, g in found.items()}
    collector.gradients(moved, base.gradients, times=constants.COMBINED, when=f"on {there.type}")
    return collector.close("there is no gradient")
