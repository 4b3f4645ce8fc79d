"""Gradients at other values of the inputs that have none: integers, masks, and floating-point constants."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.contracts.elsewhere import Elsewhere
from nn_from_scratch.verify.protocol import Operand
from nn_from_scratch.verify.results import CheckResult

Variant = tuple[str, Tensor, bool]
"""Where it is, the value, and whether it is surely among those that the input is meant to have."""


@contract(order=205, elsewhere=True)
def constant_inputs(collector: ComparisonCollector) -> list[CheckResult]:
    """The gradient is right for other integers, masks and constants, within what was given.

    Integers are reversed, unless they are in order, and one of those that occur several times is replaced by another,
    which leaves a class or a segment without entries. Masks are reversed and get a row without entries. What may be
    against the meaning of an input gives a limit at most: such a row where all have equally many entries, and other
    numbers in a floating-point constant (targets that no longer add up to one).
    """
    operands = [operand for operand in collector.inputs if not operand.differentiable and operand.value.numel() > 1]
    if not operands or not collector.differentiable:
        return collector.not_applicable("no input is constant, or none is differentiable")
    elsewhere = Elsewhere(collector)
    for operand in operands:
        for where, value, meant in _variants(operand, collector.context):
            if not torch.equal(value, operand.value):
                elsewhere.look({operand.name: value}, f"for {operand.name} {where}", special=True, meant=meant)
    return elsewhere.close("the forward is finite at no other value of a constant input")


def _variants(operand: Operand, context: CheckContext) -> Iterator[Variant]:
    x = operand.value
    if x.dtype == torch.bool:
        yield from _masks(x)
    elif x.is_floating_point():
        yield "in reverse order", x.flip(0), False
        shares = (1 + context.signed(x.shape[:1], "constant", operand.name).abs()).reciprocal()
        yield "with rows of another size", x * shares.to(x).reshape(-1, *(1,) * (x.dim() - 1)), False
    elif not x.is_complex():
        yield from _integers(x)


def _masks(x: Tensor) -> Iterator[Variant]:
    yield "in reverse order", x.flip(0), True
    rows = x.reshape(-1, x.shape[-1])
    counts = rows.sum(-1)
    if x.dim() > 1:
        emptied = rows.clone()
        emptied[int(counts.argmax())] = False
        yield "with an empty row", emptied.reshape(x.shape), bool((counts != counts[0]).any())


def _integers(x: Tensor) -> Iterator[Variant]:
    steps = x.reshape(-1).diff()
    if not bool((steps >= 0).all() or (steps <= 0).all()):  # what is in order may have to be
        yield "in reverse order", x.flip(0), True
    values: Tensor = x.unique()  # type: ignore[no-untyped-call]
    if 1 < values.numel() < x.numel():
        middle = values.numel() // 2
        without = torch.where(x == values[middle], values[middle - 1], x)
        yield f"without the value {int(values[middle])}", without, True
