"""Where dimension 0 counts independent samples, the gradients of the samples make up that of the batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts.baseline import (
    Baseline,
    baseline,
    changed_values,
    fresh_gradients,
    is_finite,
)
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract, usable_baseline
from nn_from_scratch.verify.contracts.elsewhere import Elsewhere
from nn_from_scratch.verify.protocol import Gradients, Operand, Subject, starting_values
from nn_from_scratch.verify.results import CheckContext, CheckResult

__all__ = ["batch_consistency", "batched_slots", "other_shapes"]

_MOST_SAMPLES = 8


@contract("batch_consistency")
def batch_consistency(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """Per-sample gradients add up to the batch's, the order of samples is immaterial, and N = 0 and N = 1 work.

    Only where measurement shows that the forward treats dimension 0 as independent samples. An input of one
    sample is extended to a batch of two first.
    """
    check = "batch_consistency"
    if not any(slot.role == "input" and slot.differentiable and slot.value.dim() for slot in subject.operands):
        return [CheckResult.not_applicable(check, "no differentiable input has a dimension that could count samples")]
    base = usable_baseline(subject, context, check)
    if isinstance(base, list):
        return base
    batched = batched_slots(subject, base, context)
    if batched is None:
        why = "the forward does not treat dimension 0 of its inputs as independent samples (measured)"
        return [CheckResult.not_applicable(check, why)]
    if _size(base, batched) == 1:
        extended = _extended(subject, base, batched, context)
        if extended is None:
            return [CheckResult.undecided(check, "the batch has one sample, and no second one was found")]
        base = extended
    size = _size(base, batched)
    findings = ComparisonCollector(check, subject.operands)
    findings.details["batched"] = sorted(batched)
    _by_sample(subject, context, base, batched, min(size, _MOST_SAMPLES), findings)
    _reordered(subject, context, base, batched, size, findings)
    _empty(subject, base, batched, findings)
    return findings.close("no gradient was compared")


def _size(base: Baseline, batched: set[str]) -> int:
    return base.values[next(iter(batched))].shape[0]


def _taken(base: Baseline, batched: set[str], rows: Tensor | slice) -> dict[str, Tensor]:
    return {name: x[rows] if name in batched else x for name, x in base.values.items()}


def batched_slots(subject: Subject, base: Baseline, context: CheckContext) -> set[str] | None:
    """The inputs whose dimension 0 counts samples, found by running samples alone; None if there are none.

    Tried: all inputs that share the size of the first differentiable one, and that one alone.
    """
    inputs = [slot for slot in subject.operands if slot.role == "input" and slot.value.dim() > 0]
    first = next((slot for slot in inputs if slot.differentiable), None)
    if first is None:
        return None
    size = base.values[first.name].shape[0]
    sharing = {slot.name for slot in inputs if base.values[slot.name].shape[0] == size}
    if size == 0 or any(y.dim() == 0 or y.shape[0] != size for y in base.outputs.values()):
        return None
    for batched in (sharing, {first.name}):
        if _independent(subject, base, batched, size, context):
            return batched
    return None


def _independent(subject: Subject, base: Baseline, batched: set[str], size: int, context: CheckContext) -> bool:
    """Whether each sample alone, and the batch in reverse, give the same rows of the outputs."""
    whole = base.outputs
    rows = [slice(i, i + 1) for i in range(min(size, _MOST_SAMPLES))]
    parts: list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]] = []
    try:
        parts.extend(
            (subject.forward(_taken(base, batched, row)), {n: y[row] for n, y in whole.items()}) for row in rows
        )
        if size == 1:  # one sample is alike with and without the others; a second one tells
            second = _twice(subject, base, batched, context)
            if second is None:
                return False
            outputs = subject.forward(second)
            if any(y.dim() == 0 or y.shape[0] != 2 for y in outputs.values()):
                return False
            parts.append(({n: y[:1] for n, y in outputs.items()}, whole))
        else:
            backwards = torch.arange(size - 1, -1, -1)
            turned = subject.forward(_taken(base, batched, backwards))
            parts.append((turned, {n: y[backwards.to(y.device)] for n, y in whole.items()}))
    except (SubjectError, IndexError):
        return False
    for found, expected in parts:
        for name, y in expected.items():
            if name not in found or found[name].shape != y.shape:
                return False
            allowed = base.output_allowed(name, context.factor)
            apart = (found[name].double() - y.double()).abs()
            if y.numel() and float(apart.nan_to_num(nan=float("inf")).max()) > allowed:
                return False
    return True


def _twice(subject: Subject, base: Baseline, batched: set[str], context: CheckContext) -> dict[str, Tensor] | None:
    other = changed_values(subject, context, base.values)
    if other is None:
        return None
    return {n: torch.cat([x, other[n]]) if n in batched else x for n, x in base.values.items()}


def _extended(subject: Subject, base: Baseline, batched: set[str], context: CheckContext) -> Baseline | None:
    values = _twice(subject, base, batched, context)
    if values is None:
        return None
    extended = baseline(subject, context, "batch of two", values=values)
    return extended if is_finite(extended.outputs) and is_finite(extended.gradients) else None


def _compare(
    findings: ComparisonCollector,
    context: CheckContext,
    base: Baseline,
    operands: tuple[Operand, ...],
    found: Gradients,
    expected: Gradients,
    when: str,
) -> None:
    for slot in operands:
        if not slot.differentiable:
            continue
        one, other = found.get(slot.name), expected.get(slot.name)
        like = base.values[slot.name]
        findings.tensor(
            slot.name,
            torch.zeros_like(like) if one is None else one,
            torch.zeros_like(like) if other is None else other,
            4 * base.allowed(slot.name, context.factor),
            when=when,
        )


def _by_sample(
    subject: Subject,
    context: CheckContext,
    base: Baseline,
    batched: set[str],
    count: int,
    findings: ComparisonCollector,
) -> None:
    """Sum of the parameters' gradients over samples, rows of the inputs' gradients."""
    some = slice(0, count)
    seeds = {name: c[some] for name, c in base.cotangents.items()}
    values = _taken(base, batched, some)
    together = fresh_gradients(subject, values, seeds)
    singles = [
        fresh_gradients(
            subject,
            _taken(base, batched, slice(i, i + 1)),
            {name: c[i : i + 1] for name, c in base.cotangents.items()},
        )
        for i in range(count)
    ]
    joined: dict[str, Tensor | None] = {}
    for name in together:
        parts = [g for single in singles if (g := single[name]) is not None]
        if len(parts) < count:
            joined[name] = None
        elif name in batched:
            joined[name] = torch.cat(parts)
        else:
            joined[name] = torch.stack(parts).sum(dim=0) if all(p.shape == parts[0].shape for p in parts) else parts[0]
    part = Baseline(values=values, cotangents=seeds, outputs=base.outputs, gradients=base.gradients, noise=base.noise)
    when = f"the gradient of a batch of {count} is not made up of the gradients of its samples (N = 1 each)"
    _compare(findings, context, part, subject.operands, together, joined, when)


def _reordered(
    subject: Subject, context: CheckContext, base: Baseline, batched: set[str], size: int, findings: ComparisonCollector
) -> None:
    order = torch.randperm(size, generator=context.generator("order of samples"))
    if size > 1 and bool((order == torch.arange(size)).all()):
        order = order.flip(0)
    seeds = {name: c[order.to(c.device)] for name, c in base.cotangents.items()}
    found = fresh_gradients(subject, _taken(base, batched, order), seeds)
    expected = {
        name: None if g is None else g[order.to(g.device)] if name in batched else g
        for name, g in base.gradients.items()
    }
    when = "the gradient depends on the order of the samples"
    _compare(findings, context, base, subject.operands, found, expected, when)


def _empty(subject: Subject, base: Baseline, batched: set[str], findings: ComparisonCollector) -> None:
    values = _taken(base, batched, slice(0, 0))
    try:
        outputs = subject.forward(values)
    except SubjectError as error:
        findings.details["N = 0"] = f"the forward refuses it: {error}"
        return
    if any(y.dim() == 0 or y.shape[0] != 0 for y in outputs.values()):
        findings.details["N = 0"] = "the forward gives no empty output"
        return
    try:
        found = fresh_gradients(subject, values, {name: c[:0] for name, c in base.cotangents.items()})
    except SubjectError as error:
        findings.wrong(f"at N = 0, which the forward accepts, {error}")
        return
    for name, gradient in found.items():
        if gradient is None:
            continue
        if gradient.shape != values[name].shape:
            shapes = f"{tuple(gradient.shape)} instead of {tuple(values[name].shape)}"
            findings.wrong(f"at N = 0 the gradient has shape {shapes}", name)
        elif gradient.numel() and not bool((gradient == 0).all()):
            findings.wrong("at N = 0 the gradient is not zero", name)
        else:
            findings.agreed()


@contract("other_shapes")
def other_shapes(subject: Subject, context: CheckContext) -> list[CheckResult]:
    """The gradient is right for one sample, for more samples, and for tensors of one dimension more.

    Finds a missing 1/N that was tested at N = 1, and a layer norm that assumes two dimensions. Only shapes
    that the forward accepts count. One dimension more is tried where PyTorch's engine calls the backward; a
    backward that raises there has refused the shape, which is no fault, and is reported.
    """
    check = "other_shapes"
    values = starting_values(subject)
    inputs = [slot for slot in subject.operands if slot.role == "input" and slot.value.dim()]
    first = next((slot for slot in inputs if slot.differentiable), None)
    if first is None:
        return [CheckResult.not_applicable(check, "no differentiable input has a dimension")]
    elsewhere = Elsewhere(check)
    only = [slot.name for slot in subject.operands if slot.differentiable]
    other = changed_values(subject, context, values)
    size = first.value.shape[0]
    sharing = [slot.name for slot in inputs if slot.value.shape[0] == size]
    if size > 1:
        one = {name: values[name][:1] for name in sharing}
        elsewhere.look(subject, context, one, "for one sample (dimension 0 of size 1)", only=only, harsh=False)
    if size and other is not None:
        more = {name: torch.cat([values[name], other[name]]) for name in sharing}
        elsewhere.look(subject, context, more, f"for dimension 0 of size {2 * size}", only=only, harsh=False)
        if subject.traits.torch_engine:
            stacked = _stacked(inputs, first, values, other)
            shape = tuple(stacked[first.name].shape)
            elsewhere.look(subject, context, stacked, f"for {first.name} of shape {shape}", only=only, harsh=False)
    return elsewhere.close("the forward accepts no other shape that was tried")


def _stacked(
    inputs: list[Operand], first: Operand, values: dict[str, Tensor], other: dict[str, Tensor]
) -> dict[str, Tensor]:
    """A new dimension of size 2 behind the first one (in front of a single one), for all inputs of the same shape."""
    axis = 1 if first.value.dim() > 1 else 0
    same = [slot.name for slot in inputs if slot.value.shape == first.value.shape]
    return {name: torch.stack([values[name], other[name]], dim=axis) for name in same}
