"""The form of a planted fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.functions import function

Backward = Callable[..., tuple[Tensor | None, ...]]


@dataclass(frozen=True)
class PlantedFault:
    """A layer whose hand-written backward is wrong in one place.

    Attributes:
        layer: The layer, such as "conv2d".
        fault: What was done to its backward, in a few words; (layer, fault) is unique.
        kind: The diagnosis that names it.
        target: The tensor whose gradient is wrong; the others' are right.
        reference: The forward, in differentiable torch operations.
        backward: (cotangent, *inputs) to one gradient for each input.
        names: The inputs' names.
        parameters: Those that are parameters.
        shapes: The inputs' shapes.
        mentions: Words that the sentence has to contain.
        draw: How to draw an input of a given shape; standard normal by default.
        needs_pair: Autograd would repair or refuse this gradient, so that it only shows in a pair.
        also: Other diagnoses that are true of this fault, and that are given where less of the context is known.
    """

    layer: str
    fault: str
    kind: str
    target: str
    reference: Callable[..., Tensor]
    backward: Backward
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    parameters: tuple[str, ...] = ()
    mentions: str = ""
    draw: Callable[[tuple[int, ...], torch.Generator], Tensor] | None = None
    needs_pair: bool = False
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.layer}: {self.fault}"

    def inputs(self, seed: int) -> tuple[Tensor, ...]:
        """The inputs for one seed, float64."""
        generator = torch.Generator().manual_seed(seed)
        if self.draw is not None:
            return tuple(self.draw(shape, generator) for shape in self.shapes)
        return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in self.shapes)

    def function(self) -> Callable[..., Tensor]:
        """The fault as a custom autograd function."""
        return function(self.reference, self.backward)

    def true_gradients(self, inputs: tuple[Tensor, ...], g: Tensor) -> dict[str, Tensor]:
        """The right gradients by name, from autograd through the reference."""
        leaves = tuple(value.detach().clone().requires_grad_() for value in inputs)
        with torch.enable_grad():
            gradients = torch.autograd.grad(self.reference(*leaves), leaves, g, materialize_grads=True)
        return dict(zip(self.names, gradients, strict=True))


def of_one_input(
    layer: str,
    fault: str,
    kind: str,
    reference: Callable[[Tensor], Tensor],
    dx: Callable[[Tensor, Tensor], Tensor],
    shape: tuple[int, ...],
    **options: Any,
) -> PlantedFault:
    """A fault of a layer of one input x; `dx` takes the cotangent and x."""
    return PlantedFault(layer, fault, kind, "x", reference, lambda g, x: (dx(g, x),), ("x",), (shape,), **options)
