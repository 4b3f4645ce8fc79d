"""What is handed over stays as it was, what is returned is the caller's, and what was kept is let go."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from nn_from_scratch.verify.contracts.baseline import Baseline, changed_values, cloned, seeds_like
from nn_from_scratch.verify.contracts.collector import (
    ComparisonCollector,
    bitwise_equal,
    contract,
    same_layout,
    usable_baseline,
)
from nn_from_scratch.verify.protocol import Run, Subject, starting_values
from nn_from_scratch.verify.results import CheckContext, CheckResult
from nn_from_scratch.verify.subjects.structure import snapshot

__all__ = ["no_aliasing", "records_freed", "unmodified"]


@contract("unmodified")
def unmodified(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Neither forward nor backward changes an input, a parameter, an output or a cotangent, in value or layout."""
    check = "unmodified"
    values = starting_values(subject)
    run = subject.run(values)
    findings = ComparisonCollector(check, subject.operands)
    _hold(findings, run.handed, values, "forward")
    before = {name: snapshot(y) for name, y in run.outputs.items()}
    cotangents = seeds_like(run.outputs, context, check)
    kept = {name: snapshot(c) for name, c in cotangents.items()}
    places = {name: c.data_ptr() for name, c in cotangents.items()}
    run.backward(cotangents)
    if not findings.results:
        _hold(findings, run.handed, values, "backward")
    for name, y in run.outputs.items():
        if not bitwise_equal(y, before[name]):
            findings.wrong(f"backward modifies the output {name}", name)
    for name, cotangent in cotangents.items():
        if not bitwise_equal(cotangent, kept[name]):
            changed = int((cotangent != kept[name]).sum()) if cotangent.shape == kept[name].shape else "all"
            findings.wrong(f"backward modifies the cotangent of {name} in place ({changed} of its entries)", name)
        elif not same_layout(cotangent, kept[name]) or cotangent.data_ptr() != places[name]:
            findings.wrong(f"backward changes the strides or the memory of the cotangent of {name}", name)
        else:
            findings.agreed()
    return findings.close("the subject has neither inputs nor outputs")


def _hold(
    findings: ComparisonCollector, handed: Mapping[str, Tensor], values: Mapping[str, Tensor], stage: str
) -> None:
    for name, tensor in handed.items():
        if not bitwise_equal(tensor, values[name]):
            changed = int((tensor != values[name]).sum()) if tensor.shape == values[name].shape else "all"
            findings.wrong(f"{stage} modifies {name} in place ({changed} of {values[name].numel()} entries)", name)
        elif not same_layout(tensor, values[name]):
            findings.wrong(f"{stage} changes the strides of {name} in place", name)
        else:
            findings.agreed()


def _span(tensor: Tensor) -> tuple[int, int]:
    extent = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + extent * tensor.element_size()


def _overlap(a: Tensor, b: Tensor) -> bool:
    if not a.numel() or not b.numel() or a.device != b.device:
        return False
    (start_a, end_a), (start_b, end_b) = _span(a), _span(b)
    return start_a < end_b and start_b < end_a


@contract("no_aliasing")
def no_aliasing(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """A gradient is the caller's: it shares no memory with what the subject keeps, and no later pass changes it.

    Wrong: memory shared with an input, a parameter or an output; a buffer that the next backward writes over;
    two gradients in one memory; a field that a backward adds to and that is the caller's cotangent. Allowed,
    and said: a gradient that is the cotangent itself or a view of it, as adding and reshaping give in
    PyTorch; and, where PyTorch's engine is the caller, two gradients that are one tensor.
    """
    check = "no_aliasing"
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    findings = ComparisonCollector(check, subject.operands)
    run = subject.run(base.values)
    cotangents = {name: c.clone() for name, c in base.cotangents.items()}
    found = {name: g for name, g in run.backward(cotangents).items() if g is not None}
    said: list[str] = []
    parameters = {slot.name for slot in subject.operands if slot.role == "parameter"}
    adds = subject.traits.parameter_gradients == "adds"
    for name, gradient in found.items():
        for other, kept in (*run.handed.items(), *((f"the output {n}", y) for n, y in run.outputs.items())):
            if _overlap(gradient, kept):
                findings.wrong(f"the gradient of {name} shares memory with {other}", name)
        passes_on = [f"the cotangent of {n}" for n, c in cotangents.items() if _overlap(gradient, c)]
        if passes_on and name in parameters and adds:
            findings.wrong(f"the gradient that {name} keeps shares memory with {passes_on[0]}", name)
        elif passes_on:
            said.append(f"the gradient of {name} is (a view of) {passes_on[0]}")
        findings.agreed()
    names = list(found)
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            if not _overlap(found[name], found[other]):
                continue
            if subject.traits.torch_engine or any(_overlap(found[name], c) for c in cotangents.values()):
                said.append(f"the gradients of {name} and {other} share memory")
            else:
                findings.wrong(f"the gradients of {name} and {other} share memory", name)
    _hold_through_next_pass(subject, context, run, found, base.values, findings)
    if subject.traits.backward_twice and not findings.results:
        _written_over(subject, context, base, findings)
    return findings.close("the subject returned no gradient", reason="; ".join(said) or None)


def _hold_through_next_pass(
    subject: Subject,
    context: CheckContext,
    run: Run,
    found: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    findings: ComparisonCollector,
) -> None:
    kept = cloned(found)
    other = changed_values(subject, context, values) or values
    traits = subject.traits
    following = subject.run(other, beside=run) if traits.several_pending else subject.run(other)
    following.backward({n: 2 * c for n, c in seeds_like(following.outputs, context, "next pass").items()})
    if traits.backward_twice:
        run.backward({n: 2 * c for n, c in seeds_like(run.outputs, context, "second backward").items()})
    for name, gradient in found.items():
        before = kept[name]
        if before is not None and not bitwise_equal(gradient, before):
            findings.wrong(
                f"a later backward changed the gradient of {name} that was returned before: it lies in a "
                "buffer "
                "that is used again",
                name,
            )


def _written_over(subject: Subject, context: CheckContext, base: Baseline, findings: ComparisonCollector) -> None:
    """Write over the gradients of one backward, as an optimizer may, and see whether the next one suffers."""
    run = subject.run(base.values)
    cotangents = {name: c.clone() for name, c in base.cotangents.items()}
    written = []
    for name, gradient in run.backward(cotangents).items():
        lent = gradient is None or any(_overlap(gradient, c) for c in cotangents.values())
        if gradient is not None and not lent:
            gradient.detach().zero_()
            written.append(name)
    again = cloned(run.backward({name: c.clone() for name, c in base.cotangents.items()}))
    for name in written:
        findings.gradients(
            {name: again[name]},
            {name: base.gradients[name]},
            lambda slot: 2 * base.allowed(slot, context.factor),
            when="after the gradients of the backward before it were written over: they lie in saved tensors",
        )


@contract("records_freed")
def records_freed(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """After a pass is let go, nothing keeps its inputs, outputs or cotangents alive.

    Held with weak references to the memory itself, so that a detached copy of a tensor object is found as
    well.
    """
    check = "records_freed"
    watched, first = _one_pass(subject, context)
    # A form that remembers its last pass is entitled to; it lets go of it in the next one.
    second = None if subject.traits.several_pending else _one_pass(subject, context)
    if not all(freed() for freed in watched.values()):
        gc.collect()  # only then: it takes a quarter of a second
    findings = ComparisonCollector(check, subject.operands)
    for name, freed in watched.items():
        if freed():
            findings.agreed()
        else:
            findings.wrong(f"{name} of a pass that is over is still held in memory", name)
    del first, second
    return findings.close("nothing was handed over")


def _watch(tensor: Tensor) -> Callable[[], bool]:
    """Whether the memory of a tensor has been freed, asked later."""
    reference: Any = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    return lambda: bool(reference.expired())


def _one_pass(subject: Subject, context: CheckContext) -> tuple[dict[str, Callable[[], bool]], Run]:
    run = subject.run({})
    inputs = {slot.name for slot in subject.operands if slot.role == "input"}
    cotangents = seeds_like(run.outputs, context, "records")
    watched = {name: _watch(t) for name, t in run.handed.items() if name in inputs}
    parameters = {t.untyped_storage().data_ptr() for name, t in run.handed.items() if name not in inputs}
    watched |= {
        f"the output {name}": _watch(y)
        for name, y in run.outputs.items()
        if y.untyped_storage().data_ptr() not in parameters
    }
    watched |= {f"the cotangent of {name}": _watch(c) for name, c in cotangents.items()}
    run.backward(cotangents)
    run.release()
    return watched, run
