"""What an entry of the catalogue says of a layer, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nn_from_scratch.layer import Layer
from nn_from_scratch.module import Saving
from nn_from_scratch.records import Record

Shape = tuple[int, ...]
Reference = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One way to make a layer, and the shapes of its inputs.

    Attributes:
        name: readable and unique within the spec; it becomes part of the test's name.
        shapes: one shape for each input.
        arguments, options: positional and keyword arguments of the constructor.
        training: whether the layer is in training mode.
        classes: for an input of integers, by its place, how many values it takes.
    """

    name: str
    shapes: tuple[Shape, ...]
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    training: bool = True
    classes: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Bound:
    """How far an entry may be from torch's, relative to the largest one: a few roundings.

    Attributes:
        float64, float32: by dtype.
        reason: why it is not the default, if it is not.
    """

    float64: float = 1e-14
    float32: float = 5e-6
    reason: str = ""


@dataclass(frozen=True)
class Spec:
    """All that the tests need to know of one layer.

    Attributes:
        layer: the class.
        cases: at least one.
        reference: called with the layer, its parameters by name and the inputs; torch's differentiable equivalent.
        seeded: whether the constructor takes `generator` and `dtype`, because it draws parameters.
        typed: whether the constructor takes `dtype` alone; the parameters, which start as constants, are then drawn.
        kinks: called with the layer and the inputs; the distance to the nearest point without a derivative.
        bound: for the comparison with the reference.
    """

    layer: type[Layer]
    cases: tuple[Case, ...]
    reference: Reference
    seeded: bool = False
    typed: bool = False
    kinks: Callable[..., Tensor] | None = None
    bound: Bound = field(default_factory=Bound)

    def build(self, case: Case, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Layer:
        """The layer of this case, its parameters (and where it has any, its masks) drawn under the seed."""
        generator = torch.Generator().manual_seed(seed)
        drawn: dict[str, Any] = {"generator": generator, "dtype": dtype} if self.seeded else {}
        if self.typed:
            drawn = {"dtype": dtype}
        given = {k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in case.options.items()}
        layer = self.layer(*case.arguments, **given, **drawn)
        if self.typed:
            for tensor in (layer.parameters() | layer.buffers()).values():
                if tensor.is_floating_point():  # between 1/2 and 3/2, as a variance must not be negative
                    tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5)
        if hasattr(layer, "generator"):
            layer.generator = generator  # in the state that the constructor left it in
        return layer.train(case.training)


class Repeated(Layer):
    """A layer that draws, with draws that repeat: every forward pass starts from the state its generator is in now."""

    def __init__(self, layer: Layer, generator: torch.Generator) -> None:
        super().__init__()
        self.layer = layer
        self.generator = generator
        self.state = generator.get_state()

    def forward(self, *inputs: Tensor) -> Tensor | Saving:
        """The layer's own, from the same state."""
        self.generator.set_state(self.state)
        return self.layer.forward(*inputs)

    def input_vjp(self, g: Tensor, record: Record) -> Tensor | tuple[Tensor | None, ...]:
        """The layer's own."""
        return self.layer.input_vjp(g, record)


def repeatable(layer: Layer) -> Layer:
    """The layer itself, or one around it that draws the same on every call: what can be differentiated."""
    generator = getattr(layer, "generator", None)
    return Repeated(layer, generator) if isinstance(generator, torch.Generator) else layer


def draw_inputs(case: Case, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Normally distributed inputs of the case's shapes; classes are drawn uniformly."""
    generator = torch.Generator().manual_seed(seed + 1)
    return tuple(
        torch.randint(case.classes[place], shape, generator=generator)
        if place in case.classes
        else torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for place, shape in enumerate(case.shapes)
    )
