"""The transforms of `torch.func` that differentiate: `vjp`, `grad` and `jacrev` beside the backward."""

from __future__ import annotations

import torch
from torch import Tensor

from nn_from_scratch.verify.contracts import constants
from nn_from_scratch.verify.contracts.collector import ComparisonCollector, contract
from nn_from_scratch.verify.contracts.transforms import attempted, plain_function
from nn_from_scratch.verify.results import CheckResult


@contract(order=246, elsewhere=True, torch_limits=True)
def functional(collector: ComparisonCollector) -> list[CheckResult]:
    """`torch.func.vjp`, `grad` and `jacrev` give the gradients of the backward.

    At level "quick" only where a part of the backward was written by hand.
    """
    function = plain_function(collector)
    if isinstance(function, str):
        return collector.not_applicable(function)
    base = collector.base
    names = [operand.name for operand in function.operands]
    tensors = tuple(base.values[name].detach().clone() for name in names)
    right = {name: gradient for name, gradient in collector.filled(base.gradients).items() if name in names}
    places = tuple(range(len(names)))

    def outputs(*given: Tensor) -> tuple[Tensor, ...]:
        found = function(dict(zip(names, given, strict=True)))
        return tuple(found[name] for name in base.cotangents)

    def projection(*given: Tensor) -> Tensor:
        pairs = zip(outputs(*given), base.cotangents.values(), strict=True)
        return torch.stack([(y * v).sum() for y, v in pairs]).sum()

    def vjp() -> tuple[Tensor, ...]:
        gradients: tuple[Tensor, ...] = torch.func.vjp(outputs, *tensors)[1](tuple(base.cotangents.values()))
        return gradients

    def jacrev() -> tuple[Tensor, ...]:
        rows = torch.func.jacrev(outputs, argnums=places)(*tensors)
        return tuple(_contracted([row[place] for row in rows], list(base.cotangents.values())) for place in places)

    ways = {"vjp": vjp, "grad": lambda: torch.func.grad(projection, argnums=places)(*tensors)}
    if sum(v.numel() for v in base.cotangents.values()) <= constants.MOST_JACOBIAN_ROWS:
        ways["jacrev"] = jacrev
    for way, gradients in ways.items():
        found, refused = attempted(gradients)
        if refused and not collector.compared:
            return collector.not_applicable(f"no torch.func.{way}: {refused}")
        if refused:
            collector.limit(f"no torch.func.{way}: {refused}")
            continue
        for name, gradient in zip(names, found, strict=True):
            when = f"the gradient differs under torch.func.{way}"
            collector.tensor(name, gradient.detach(), right[name], constants.COMBINED * base.allowed(name), when=when)
    return collector.close("nothing was compared")


def _contracted(jacobians: list[Tensor], cotangents: list[Tensor]) -> Tensor:
    terms = [torch.tensordot(v, jacobian, v.dim()) for v, jacobian in zip(cotangents, jacobians, strict=True)]
    return torch.stack(terms).sum(0)
