"""Gradients at other values than the given ones: zeros, ties, thresholds, saturation; and at other shapes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.contracts.elsewhere import Elsewhere
from nn_from_scratch.verify.contracts.samples import find_batch, more_samples, rows, stacked_inputs, stated_batch
from nn_from_scratch.verify.protocol import Operand, starting_values
from nn_from_scratch.verify.results import CheckResult


@contract(order=190, elsewhere=True, torch_limits=True)
def other_shapes(collector: ComparisonCollector) -> list[CheckResult]:
    """The gradient is right for one sample, for more samples, and for tensors of one dimension more.

    Finds a missing 1/N that was tested at N = 1, and a layer norm that assumes two dimensions. Only shapes
    count at which the forward gives what it gives for the samples one by one, or those that the option `batch` says it
    takes. One dimension more is tried where PyTorch's engine calls the backward; a backward that raises there has
    refused the shape: a limit.
    """
    values = starting_values(collector.subject)
    elsewhere = Elsewhere(collector)
    if not any(operand.differentiable and operand.value.dim() for operand in collector.inputs):
        return collector.not_applicable("no differentiable input has a dimension")
    batch = find_batch(collector)
    dimensions = stated_batch(collector) if batch is None else batch.dimensions
    if dimensions:
        size = values[next(iter(dimensions))].shape[dimensions[next(iter(dimensions))]]
        one = {name: rows(values[name], slice(0, 1), dimension) for name, dimension in dimensions.items()}
        if size > 1 and (batch is None or batch.holds_nearby(collector, values)):
            elsewhere.look(one, "for one sample")
        more = more_samples(collector, dimensions)
        if more is not None and (batch is None or batch.makes_up(collector, more)):
            elsewhere.look({name: more[name] for name in dimensions}, f"for {2 * size} samples")
    if collector.subject.traits.torch_engine:
        for stacked in stacked_inputs(collector):
            name = next(iter(stacked))
            elsewhere.look(stacked, f"for {name} of shape {tuple(stacked[name].shape)}")
    return elsewhere.close("no other shape was found at which the forward treats each sample alone")


@contract(order=200, elsewhere=True, torch_limits=True)
def special_values(collector: ComparisonCollector) -> list[CheckResult]:
    """The gradient is right with zeros, ties, entries at common thresholds, and entries that saturate.

    One tensor is moved at a time. A place where the forward raises or is not finite is outside the domain and
    does not count, and neither does one where the forward is not shown to be valid: where it is neither smooth nor has
    one-sided derivatives, which at a kink bound what is right.
    """
    operands = [operand for operand in collector.differentiable if operand.value.numel()]
    if not operands:
        return collector.not_applicable("no differentiable tensor has an entry")
    elsewhere = Elsewhere(collector)
    for operand in operands:
        for where, value in _special(operand, collector.context):
            alike = of_same_kind(operand.value, value)
            elsewhere.look({operand.name: alike}, f"for {operand.name} {where}", special=True)
        size = float(operand.value.abs().mean()) or 1.0
        for largest in constants.SATURATING_SIZES:
            where = f"for {operand.name} with entries of size {largest:g}"
            larger = of_same_kind(operand.value, operand.value * (largest / size))
            elsewhere.look({operand.name: larger}, where, special=True, extreme=True)
    return elsewhere.close("the forward is not finite at any special value")


def of_same_kind(given: Tensor, value: Tensor) -> Tensor:
    """Another value, with what is evident of the given one: that might be what the subject is meant for.

    A square matrix that is symmetric stays symmetric, numbers that are not negative stay so, shares of one (in rows
    that add up to one) stay shares.
    """
    if given.dim() >= 2 and given.shape[-1] > 1 and given.shape[-2] == given.shape[-1] and torch.equal(given, given.mT):
        value = value.triu() + value.triu(1).mT
    if bool((given >= 0).all()):
        value = value.abs()
        total = given.sum(-1, keepdim=True) if given.dim() else given
        if given.dim() and given.shape[-1] > 1 and bool(((total - 1).abs() <= constants.SHARES_OF_ONE).all()):
            value = value / value.sum(-1, keepdim=True).where(value.sum(-1, keepdim=True) > 0, 1)
    return value


def _special(operand: Operand, context: CheckContext) -> Iterator[tuple[str, Tensor]]:
    x = operand.value
    draw = context.generator("special", operand.name)
    if x.numel() > 1:
        some = x.clone(memory_format=torch.contiguous_format)
        count = max(1, int(constants.ZEROED_SHARE * x.numel()))
        some.view(-1)[torch.randperm(x.numel(), generator=draw)[:count].to(x.device)] = 0
        yield "with some entries zero", some
        yield "with equal entries", x.flatten()[0].expand(x.shape).clone()
    yield "with all entries zero", torch.zeros_like(x)
    which = torch.randint(0, len(constants.THRESHOLDS), x.shape, generator=draw)
    yield "at thresholds of common activations", torch.tensor(constants.THRESHOLDS, dtype=torch.float64)[which].to(x)
    whole = x.round().clamp(x.min().ceil(), x.max().floor())
    if bool(x.min() >= 0) and bool(whole.min() < whole.max()):  # it may hold positions
        yield "at whole numbers", whole
