"""What is handed over stays as it was, what is returned is the caller's, and what was kept is released."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from nn_from_scratch.verify.contracts.baseline_pass import changed_values, cloned, draw_cotangents, gradients_of
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, bitwise_equal, contract, same_layout
from nn_from_scratch.verify.protocol import Run, starting_values
from nn_from_scratch.verify.results import CheckResult
from nn_from_scratch.verify.subjects.structure import memory_extent, snapshot


@contract(order=40)
def unmodified(collector: ComparisonCollector) -> list[CheckResult]:
    """Neither forward nor backward changes an input, a parameter, an output or a cotangent, in value or layout."""
    values = starting_values(collector.subject)
    run = collector.subject.run(values)
    _compare_handed(collector, run.handed, values, "forward")
    held = {name: snapshot(tensor) for name, tensor in run.handed.items()}
    before = {name: snapshot(y) for name, y in run.outputs.items()}
    cotangents = draw_cotangents(run.outputs, collector.context, "unmodified")
    kept = {name: snapshot(c) for name, c in cotangents.items()}
    addresses = {name: c.data_ptr() for name, c in cotangents.items()}
    run.backward(cotangents)
    if not collector.results:
        _compare_handed(collector, run.handed, held, "backward")
    for name, y in run.outputs.items():
        if not bitwise_equal(y, before[name]):
            collector.wrong(f"backward modifies the output {name}", name)
    for name, cotangent in cotangents.items():
        if not bitwise_equal(cotangent, kept[name]):
            changed = _changed_entries(cotangent, kept[name])
            collector.wrong(f"backward modifies the cotangent of {name} in place ({changed} of its entries)", name)
        elif not same_layout(cotangent, kept[name]) or cotangent.data_ptr() != addresses[name]:
            collector.wrong(f"backward changes the strides or the memory of the cotangent of {name}", name)
        else:
            collector.agreed()
    return collector.close("the subject has neither inputs nor outputs")


def _compare_handed(
    collector: ComparisonCollector, handed: Mapping[str, Tensor], values: Mapping[str, Tensor], stage: str
) -> None:
    differentiable = {operand.name for operand in collector.differentiable}
    for name, tensor in handed.items():
        if not bitwise_equal(tensor, values[name]):
            changed = _changed_entries(tensor, values[name])
            what = f"{stage} modifies {name} in place ({changed} of {values[name].numel()} entries)"
            if name in differentiable or stage == "backward":
                collector.wrong(what, name)
            else:
                collector.limit(f"{what}, which has no gradient: a statistic that is kept up to date, say")
        elif not same_layout(tensor, values[name]):
            collector.wrong(f"{stage} changes the strides of {name} in place", name)
        else:
            collector.agreed()


def _changed_entries(new: Tensor, old: Tensor) -> int | str:
    return int((new != old).sum()) if new.shape == old.shape else "all"


def _overlap(a: Tensor, b: Tensor) -> bool:
    if not a.numel() or not b.numel() or a.device != b.device:
        return False
    end_a, end_b = (t.data_ptr() + memory_extent(t) * t.element_size() for t in (a, b))
    return a.data_ptr() < end_b and b.data_ptr() < end_a


@contract(order=90)
def no_aliasing(collector: ComparisonCollector) -> list[CheckResult]:
    """A gradient is the caller's: it shares no memory with what the subject keeps, and no later pass changes it.

    Wrong: memory shared with an input, a parameter or an output; a buffer that the next backward writes over;
    two gradients in one memory; a field that a backward adds to and that is the caller's cotangent. Allowed,
    and said: a gradient that is the cotangent itself or a view of it, as adding and reshaping give in
    PyTorch; and, where PyTorch's engine is the caller, two gradients that are one tensor.
    """
    base, subject = collector.base, collector.subject
    run = subject.run(base.values)
    cotangents = {name: c.clone() for name, c in base.cotangents.items()}
    found = {name: g for name, g in run.backward(cotangents).items() if g is not None}
    if not found:
        return collector.not_applicable("the subject returned no gradient")
    remarks: list[str] = []
    inputs = {operand.name for operand in collector.inputs}
    kept = {**run.handed, **{f"the output {name}": y for name, y in run.outputs.items()}}
    for name, gradient in found.items():
        for other, tensor in kept.items():
            if _overlap(gradient, tensor):
                collector.wrong(f"the gradient of {name} shares memory with {other}", name)
        passed_on = [f"the cotangent of {n}" for n, c in cotangents.items() if _overlap(gradient, c)]
        if passed_on and name not in inputs and subject.traits.parameter_gradients == "adds":
            collector.wrong(f"the gradient that {name} keeps shares memory with {passed_on[0]}", name)
        elif passed_on:
            remarks.append(f"the gradient of {name} is (a view of) {passed_on[0]}")
        collector.agreed()
    for name, other in combinations(found, 2):
        if not _overlap(found[name], found[other]):
            continue
        if subject.traits.torch_engine or any(_overlap(found[name], c) for c in cotangents.values()):
            remarks.append(f"the gradients of {name} and {other} share memory")
        else:
            collector.wrong(f"the gradients of {name} and {other} share memory", name)
    _keep_through_next_pass(collector, run, found)
    if subject.traits.backward_twice and not collector.results:
        _overwrite_gradients(collector)
    return collector.close("the subject returned no gradient", reason="; ".join(remarks) or None)


def _keep_through_next_pass(collector: ComparisonCollector, run: Run, found: Mapping[str, Tensor]) -> None:
    """See whether another pass, and a second backward of this one, change the gradients."""
    subject, context = collector.subject, collector.context
    before = cloned(found)
    values = changed_values(subject, context, collector.base.values) or collector.base.values
    following = subject.run(values, beside=run if subject.traits.several_pending else None)
    following.backward({n: 2 * c for n, c in draw_cotangents(following.outputs, context, "next pass").items()})
    if subject.traits.backward_twice:
        run.backward({n: 2 * c for n, c in draw_cotangents(run.outputs, context, "second backward").items()})
    for name, gradient in found.items():
        kept = before[name]
        if kept is not None and not bitwise_equal(gradient, kept):
            changed = f"a later backward changed the gradient of {name} that was returned before"
            collector.wrong(f"{changed}: it lies in a buffer that is used again", name)


def _overwrite_gradients(collector: ComparisonCollector) -> None:
    """Overwrite the gradients of one backward, as an optimizer may, and see whether the next one suffers."""
    base = collector.base
    run = collector.subject.run(base.values)
    cotangents = {name: c.clone() for name, c in base.cotangents.items()}
    overwritten = []
    for name, gradient in run.backward(cotangents).items():
        if gradient is not None and not any(_overlap(gradient, c) for c in cotangents.values()):
            gradient.detach().zero_()
            overwritten.append(name)
    again = gradients_of(run, base.cotangents)
    when = "after the gradients of the backward before it were written over: they lie in saved tensors"
    right = {name: base.gradients[name] for name in overwritten}
    collector.gradients({name: again[name] for name in overwritten}, right, when=when)


@contract(order=160)
def records_freed(collector: ComparisonCollector) -> list[CheckResult]:
    """After a pass is released, nothing keeps its inputs, outputs or cotangents alive.

    Weak references to the memory itself tell, so that a detached copy of a tensor object is found as well.
    """
    watched, first = _released_pass(collector)
    # A form that remembers its last pass is entitled to; it lets go of it in the next one.
    second = None if collector.subject.traits.several_pending else _released_pass(collector)
    if not all(freed() for freed in watched.values()):
        gc.collect()  # only then: it takes a quarter of a second
    for name, freed in watched.items():
        if freed():
            collector.agreed()
        else:
            collector.wrong(f"{name} of a pass that is over is still held in memory", name)
    del first, second
    return collector.close("nothing was handed over")


def _watch(tensor: Tensor) -> Callable[[], bool]:
    """Whether the memory of a tensor has been freed, asked later."""
    reference: Any = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    return lambda: bool(reference.expired())


def _released_pass(collector: ComparisonCollector) -> tuple[dict[str, Callable[[], bool]], Run]:
    run = collector.subject.run({})
    inputs = {operand.name for operand in collector.inputs}
    cotangents = draw_cotangents(run.outputs, collector.context, "records")
    parameters = {t.untyped_storage().data_ptr() for name, t in run.handed.items() if name not in inputs}
    tensors = {name: t for name, t in run.handed.items() if name in inputs}
    tensors |= {
        f"the output {n}": y for n, y in run.outputs.items() if y.untyped_storage().data_ptr() not in parameters
    }
    tensors |= {f"the cotangent of {name}": c for name, c in cotangents.items()}
    watched = {name: _watch(tensor) for name, tensor in tensors.items()}
    del tensors
    run.backward(cotangents)
    run.release()
    return watched, run
