"""Every layer beside its equivalent in torch: forward and backward, each by itself, on the cases of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.bench.duels import Duel, Side
from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.verify.catalogue import Case, Spec
from nn_from_scratch.verify.catalogue.building import Prepared, prepare

__all__ = ["PASSES", "layer_duels"]

#: What is timed of a layer, in this order.
PASSES = ("forward", "backward")


def layer_duels(*, quick: bool = False, device: str = "cpu", specs: Sequence[Spec] | None = None) -> list[Duel]:
    """The cases of all layers that have an equivalent and draw nothing: what is drawn differs from side to side.

    Args:
        quick: the first case of each layer alone.
        device: where.
        specs: of layers; by default those of this package.
    """
    return [
        Duel(f"{spec.name}, {case.name}, {timed}", partial(_sides, spec, case, device, timed))
        for spec in (LAYERS if specs is None else specs)
        if spec.reference is not None and spec.repeatable is None
        for case in (spec.cases[:1] if quick else spec.cases)
        for timed in PASSES
    ]


def _sides(spec: Spec, case: Case, device: str, timed: str) -> tuple[Side, Side]:
    mine, other = (prepare(spec, case, dtype=torch.float32, device=device) for _ in range(2))
    ours, cotangent = _ours(mine, timed)
    return ours, _theirs(spec, other, timed, cotangent)


def _ours(prepared: Prepared, timed: str) -> tuple[Side, Tensor]:
    """The layer's pass, and the cotangent that both sides propagate."""
    layer: nn.Layer = prepared.subject
    parameters = list(layer.parameters().values())
    y = layer(*prepared.inputs)  # its record stays, and backward leaves it as it is
    generator = torch.Generator().manual_seed(0)
    cotangent = torch.randn(y.shape, generator=generator).to(y)

    def forward() -> Sequence[Tensor | None]:
        layer.clear_saved_tensors()
        return (layer(*prepared.inputs),)

    def backward() -> Sequence[Tensor | None]:
        for parameter in parameters:
            parameter.grad = None
        found = nn.backward(y, cotangent)
        gradients = found if isinstance(found, tuple) else (found,)
        return (*gradients, *(parameter.grad for parameter in parameters))

    return forward if timed == "forward" else backward, cotangent


def _theirs(spec: Spec, prepared: Prepared, timed: str, cotangent: Tensor) -> Side:
    assert spec.reference is not None
    reference = spec.reference
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in prepared.inputs]
    leaves = {name: x.detach().clone().requires_grad_() for name, x in prepared.subject.parameters().items()}
    wanted = [x if x.requires_grad else None for x in (*inputs, *leaves.values())]
    floating = [x for x in wanted if x is not None]

    def forward() -> Sequence[Tensor | None]:
        return (reference(prepared.subject, leaves, *inputs),)  # with what its backward needs saved, as ours

    if timed == "forward":
        return forward
    y = forward()[0]
    assert y is not None

    def backward() -> Sequence[Tensor | None]:
        found = iter(torch.autograd.grad(y, floating, cotangent, retain_graph=True, allow_unused=True))
        return tuple(None if x is None else next(found) for x in wanted)

    return backward
