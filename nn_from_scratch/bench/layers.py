"""Every layer beside its equivalent in torch: forward and backward, on the cases of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.bench.duels import Duel, Side
from nn_from_scratch.catalogue import Case, Spec
from nn_from_scratch.catalogue.building import prepare
from nn_from_scratch.specs import LAYERS

__all__ = ["layer_duels"]


def layer_duels(*, quick: bool = False, device: str = "cpu", specs: Sequence[Spec] | None = None) -> list[Duel]:
    """The cases of all layers that have an equivalent and draw nothing: what is drawn differs from side to side.

    Args:
        quick: the first case of each layer alone.
        device: where.
        specs: of layers; by default those of this package.
    """
    return [
        Duel(f"{spec.name}, {case.name}", partial(_sides, spec, case, device))
        for spec in (LAYERS if specs is None else specs)
        if spec.reference is not None and spec.repeatable is None
        for case in (spec.cases[:1] if quick else spec.cases)
    ]


def _sides(spec: Spec, case: Case, device: str) -> tuple[Side, Side]:
    mine, other = (prepare(spec, case, dtype=torch.float32, device=device) for _ in range(2))
    layer: nn.Layer = mine.subject
    parameters = list(layer.parameters().values())
    cotangent = torch.ones_like(layer(*mine.inputs))
    layer.clear_saved_tensors()

    def ours() -> Sequence[Tensor | None]:
        for parameter in parameters:
            parameter.grad = None
        y = layer(*mine.inputs)
        found = nn.backward(y, cotangent)
        gradients = found if isinstance(found, tuple) else (found,)
        layer.clear_saved_tensors()
        return (y, *gradients, *(parameter.grad for parameter in parameters))

    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in other.inputs]
    leaves = {name: x.detach().clone().requires_grad_() for name, x in other.subject.parameters().items()}
    wanted = [x if x.requires_grad else None for x in (*inputs, *leaves.values())]
    floating = [x for x in wanted if x is not None]
    assert spec.reference is not None
    reference = spec.reference

    def theirs() -> Sequence[Tensor | None]:
        y = reference(other.subject, leaves, *inputs)
        found = iter(torch.autograd.grad(y, floating, cotangent, allow_unused=True))
        return (y, *(None if x is None else next(found) for x in wanted))

    return ours, theirs
