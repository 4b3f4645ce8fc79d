"""An object that was used before: what earlier calls have left in it changes no later gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline_pass import (
    changed_values,
    draw_cotangents,
    gradients_of,
    is_finite,
    largest_entry,
)
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.protocol import Values
from nn_from_scratch.verify.results import CheckResult


@contract(order=115)
def used_before(collector: ComparisonCollector) -> list[CheckResult]:
    """After a call with other values, and with a batch of another size, the gradients at the given inputs are the same.

    Finds a size, a scale or a mask that the first call has left in the object. It does not apply where the output
    depends on earlier calls too.
    """
    subject = collector.subject
    if not subject.traits.reusable:
        return collector.not_applicable(f"a subject of the form {subject.form!r} is not an object that keeps one pass")
    base = collector.base
    skipped: dict[str, str] = {}
    for call, values in _earlier(collector):
        try:
            earlier = subject.run(values)
            if not is_finite(earlier.outputs):
                continue
            earlier.backward(draw_cotangents(earlier.outputs, collector.context, "used before", call))
        except SubjectError as error:
            skipped[call] = str(error)
            continue
        try:
            again = subject.run(base.values, beside=earlier)
            found = gradients_of(again, base.cotangents)
        except SubjectError as error:
            collector.limit(f"after a call with {call}: {error}")
            continue
        same = all(
            name in again.outputs
            and again.outputs[name].shape == y.shape
            and largest_entry(again.outputs[name] - y) <= base.output_allowed(name)
            for name, y in base.outputs.items()
        )
        if not same:
            skipped[call] = "the output depends on it"
            continue
        collector.gradients(found, base.gradients, when=f"after a call with {call}")
    collector.details["skipped"] = skipped
    if not collector.compared:
        return collector.not_applicable("no earlier call was found that leaves the output as it is")
    return collector.close("no gradient was returned")


def _earlier(collector: ComparisonCollector) -> Iterator[tuple[str, Values]]:
    """Other calls, and what to call them: of the same shapes, of one sample, and of twice as many."""
    base = collector.base
    other = changed_values(collector.subject, collector.context, base.values)
    if other is not None:
        yield "other values", other
    sizes = {operand.name: operand.value.shape[0] for operand in collector.inputs if operand.value.dim()}
    first = next((operand.name for operand in collector.inputs if operand.differentiable), None)
    size = sizes.get(first, 0) if first is not None else 0
    sharing = [name for name in sizes if sizes[name] == size]
    if size > 1:
        yield "one sample", {**base.values, **{name: base.values[name][:1] for name in sharing}}
    if size:
        more = {name: torch.cat([base.values[name], base.values[name]]) for name in sharing}
        yield "twice as many samples", {**base.values, **more}
