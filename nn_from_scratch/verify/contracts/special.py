"""Gradients at other values than the given ones: zeros, ties, thresholds, saturation; and at other shapes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.baseline_pass import changed_values
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.contracts.elsewhere import Elsewhere
from nn_from_scratch.verify.protocol import Operand, starting_values
from nn_from_scratch.verify.results import CheckResult


@contract(order=190, elsewhere=True)
def other_shapes(collector: ComparisonCollector) -> list[CheckResult]:
    """The gradient is right for one sample, for more samples, and for tensors of one dimension more.

    Finds a missing 1/N that was tested at N = 1, and a layer norm that assumes two dimensions. Only shapes
    that the forward accepts count. One dimension more is tried where PyTorch's engine calls the backward; a
    backward that raises there has refused the shape; that is not wrong, and is reported.
    """
    subject = collector.subject
    values = starting_values(subject)
    inputs = [operand for operand in collector.inputs if operand.value.dim()]
    first = next((operand for operand in inputs if operand.differentiable), None)
    if first is None:
        return collector.not_applicable("no differentiable input has a dimension")
    elsewhere = Elsewhere(collector)
    other = changed_values(subject, collector.context, values)
    size, shape = first.value.shape[0], first.value.shape
    sharing = [operand.name for operand in inputs if operand.value.shape[0] == size]
    if size > 1:
        elsewhere.look({name: values[name][:1] for name in sharing}, "for one sample (dimension 0 of size 1)")
    if size and other is not None:
        more = {name: torch.cat([values[name], other[name]]) for name in sharing}
        elsewhere.look(more, f"for dimension 0 of size {2 * size}")
        if subject.traits.torch_engine:
            # A new dimension of size 2 behind the first one; in front of a single one.
            axis = min(len(shape) - 1, 1)
            same = [operand.name for operand in inputs if operand.value.shape == shape]
            stacked = {name: torch.stack([values[name], other[name]], dim=axis) for name in same}
            elsewhere.look(stacked, f"for {first.name} of shape {tuple(stacked[first.name].shape)}")
    return elsewhere.close("the forward accepts no other shape that was tried")


@contract(order=200, elsewhere=True)
def special_values(collector: ComparisonCollector) -> list[CheckResult]:
    """The gradient is right with zeros, ties, entries at common thresholds, and entries that saturate.

    One tensor is moved at a time. A place where the forward raises or is not finite is outside the domain and
    does not count. At a kink the one-sided derivatives bound what is right.
    """
    operands = [operand for operand in collector.differentiable if operand.value.numel()]
    if not operands:
        return collector.not_applicable("no differentiable tensor has an entry")
    elsewhere = Elsewhere(collector)
    for operand in operands:
        for where, value in _special(operand, collector.context):
            elsewhere.look({operand.name: value}, f"for {operand.name} {where}", plainly=True)
    return elsewhere.close("the forward is not finite at any special value")


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
    size = float(x.abs().mean()) or 1.0
    for saturating in constants.SATURATING_SIZES:
        yield f"with entries of size {saturating:g}", x * (saturating / size)
