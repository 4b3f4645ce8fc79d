"""Where dimension 0 counts independent samples, the gradients of the samples make up that of the batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import baseline_pass, changed_values, is_finite, largest_entry
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.protocol import Gradients, Values
from nn_from_scratch.verify.results import CheckResult


@contract(order=180, elsewhere=True)
def batch_consistency(collector: ComparisonCollector) -> list[CheckResult]:
    """Per-sample gradients add up to the batch's, the order of samples is immaterial, and N = 0 and N = 1 work.

    Only where measurement shows that the forward treats dimension 0 as independent samples. An input of one
    sample is extended to a batch of two first.
    """
    if not any(operand.differentiable and operand.value.dim() for operand in collector.inputs):
        return collector.not_applicable("no differentiable input has a dimension that could count samples")
    batched = _batched_inputs(collector)
    if batched is None:
        why = "the forward does not treat dimension 0 of its inputs as independent samples (measured)"
        return collector.not_applicable(why)
    if _size(collector, batched) == 1:
        values = _with_second_sample(collector, batched)
        extended = values and baseline_pass(collector.subject, collector.context, "batch of two", values=values)
        if not extended or not is_finite(extended.outputs) or not is_finite(extended.gradients):
            return collector.undecided("the batch has one sample, and no second one was found")
        collector.base = extended
    collector.details["batched"] = sorted(batched)
    _by_sample(collector, batched)
    _reordered(collector, batched)
    _empty(collector, batched)
    return collector.close("no gradient was compared")


def _size(collector: ComparisonCollector, batched: set[str]) -> int:
    return collector.base.values[next(iter(batched))].shape[0]


def _rows(tensors: Mapping[str, Tensor], rows: Tensor | slice, batched: set[str] | None = None) -> dict[str, Tensor]:
    """Some rows of the tensors, of those named in `batched` alone if it is given."""
    return {name: x[rows] if batched is None or name in batched else x for name, x in tensors.items()}


def _batched_inputs(collector: ComparisonCollector) -> set[str] | None:
    """The inputs whose dimension 0 counts samples, found by running samples alone; None if there are none.

    Tried: all inputs that share the size of the first differentiable one, and that one alone.
    """
    base = collector.base
    inputs = [operand for operand in collector.inputs if operand.value.dim()]
    first = next(operand.name for operand in inputs if operand.differentiable)
    size = base.values[first].shape[0]
    sharing = {operand.name for operand in inputs if base.values[operand.name].shape[0] == size}
    if size == 0 or any(y.dim() == 0 or y.shape[0] != size for y in base.outputs.values()):
        return None
    return next((batched for batched in (sharing, {first}) if _independent(collector, batched)), None)


def _independent(collector: ComparisonCollector, batched: set[str]) -> bool:
    """Whether each sample alone, and the batch in reverse, give the same rows of the outputs."""
    base, subject, size = collector.base, collector.subject, _size(collector, batched)
    whole = base.outputs

    def forward(rows: Tensor | slice) -> Mapping[str, Tensor]:
        return subject.forward(_rows(base.values, rows, batched))

    try:
        some = [slice(i, i + 1) for i in range(min(size, constants.MOST_SAMPLES))]
        parts: list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]
        parts = [(forward(row), _rows(whole, row)) for row in some]
        if size == 1:  # one sample is alike with and without the others; a second one tells
            second = _with_second_sample(collector, batched)
            outputs = {} if second is None else subject.forward(second)
            if second is None or any(y.dim() == 0 or y.shape[0] != 2 for y in outputs.values()):
                return False
            parts.append((_rows(outputs, slice(0, 1)), whole))
        else:
            backwards = torch.arange(size - 1, -1, -1)
            parts.append((forward(backwards), _rows(whole, backwards)))
    except (SubjectError, IndexError):
        return False
    for found, expected in parts:
        for name, y in expected.items():
            if name not in found or found[name].shape != y.shape:
                return False
            apart = (found[name].double() - y.double()).nan_to_num(nan=float("inf"))
            if largest_entry(apart) > base.output_allowed(name):
                return False
    return True


def _with_second_sample(collector: ComparisonCollector, batched: set[str]) -> dict[str, Tensor] | None:
    values = collector.base.values
    other = changed_values(collector.subject, collector.context, values)
    if other is None:
        return None
    return {name: torch.cat([x, other[name]]) if name in batched else x for name, x in values.items()}


def _compare(collector: ComparisonCollector, values: Values, found: Gradients, right: Gradients, when: str) -> None:
    """Compare gradients at values of another batch size than the operands' own."""
    for name in found:
        got, expected = (torch.zeros_like(values[name]) if g is None else g for g in (found[name], right[name]))
        collector.tensor(name, got, expected, collector.base.allowed(name), when=when)


def _by_sample(collector: ComparisonCollector, batched: set[str]) -> None:
    """Compare the sum of the parameters' gradients over samples, and the rows of the inputs' gradients."""
    base = collector.base
    count = min(_size(collector, batched), constants.MOST_SAMPLES)

    def vjp(rows: slice) -> dict[str, Tensor | None]:
        return collector.vjp(_rows(base.cotangents, rows), _rows(base.values, rows, batched))

    together = vjp(slice(0, count))
    singles = [vjp(slice(i, i + 1)) for i in range(count)]
    joined: dict[str, Tensor | None] = {}
    for name in together:
        parts = [g for single in singles if (g := single[name]) is not None]
        if len(parts) < count:
            joined[name] = None
        elif name in batched:
            joined[name] = torch.cat(parts)
        else:
            joined[name] = torch.stack(parts).sum(dim=0) if all(p.shape == parts[0].shape for p in parts) else parts[0]
    when = f"the gradient of a batch of {count} is not made up of the gradients of its samples (N = 1 each)"
    _compare(collector, _rows(base.values, slice(0, count), batched), together, joined, when)


def _reordered(collector: ComparisonCollector, batched: set[str]) -> None:
    base, size = collector.base, _size(collector, batched)
    order = torch.randperm(size, generator=collector.context.generator("order of samples"))
    if size > 1 and bool((order == torch.arange(size)).all()):
        order = order.flip(0)
    found = collector.vjp(_rows(base.cotangents, order), _rows(base.values, order, batched))
    right = {name: g[order] if g is not None and name in batched else g for name, g in base.gradients.items()}
    _compare(collector, base.values, found, right, "the gradient depends on the order of the samples")


def _empty(collector: ComparisonCollector, batched: set[str]) -> None:
    base, none = collector.base, slice(0, 0)
    values = _rows(base.values, none, batched)
    try:
        outputs = collector.subject.forward(values)
    except SubjectError as error:
        collector.details["N = 0"] = f"the forward refuses it: {error}"
        return
    if any(y.dim() == 0 or y.shape[0] != 0 for y in outputs.values()):
        collector.details["N = 0"] = "the forward gives no empty output"
        return
    try:
        found = collector.vjp(_rows(base.cotangents, none), values)
    except SubjectError as error:
        collector.limit(f"at N = 0, which the forward accepts, {error}")
        return
    for name, gradient in found.items():
        if gradient is None:
            continue
        if gradient.shape != values[name].shape:
            shapes = f"{tuple(gradient.shape)} instead of {tuple(values[name].shape)}"
            collector.limit(f"at N = 0 the gradient of {name} has shape {shapes}")
        elif bool((gradient != 0).any()):
            collector.limit(f"at N = 0 the gradient of {name} is not zero")
        else:
            collector.agreed()
