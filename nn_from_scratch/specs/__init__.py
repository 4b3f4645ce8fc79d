"""The catalogue: for each layer and loss its cases, as data, and the function of torch that it must equal.

The tests run over it, so a layer that is listed here is covered, and one that is not fails a test. The references
live here, and not beside the layers, because the engine knows nothing of torch's differentiable functions.
"""

from __future__ import annotations

from nn_from_scratch.layer import Layer
from nn_from_scratch.specs import activation, convolution, losses, normalization, pooling, shape
from nn_from_scratch.specs.case import Bound, Case, Reference, Shape, Spec, draw_inputs, repeatable

__all__ = ["CATALOGUE", "Bound", "Case", "Reference", "Shape", "Spec", "draw_inputs", "repeatable", "spec_of"]

CATALOGUE: tuple[Spec, ...] = tuple(
    sorted(
        (spec for room in (activation, convolution, losses, normalization, pooling, shape) for spec in room.SPECS),
        key=lambda spec: spec.layer.__name__,
    )
)


def spec_of(layer: type[Layer]) -> Spec:
    """The entry of this layer.

    Raises:
        KeyError: there is none.
    """
    for spec in CATALOGUE:
        if spec.layer is layer:
            return spec
    raise KeyError(
        f"{layer.__name__} has no entry: add `Spec({layer.__name__}, cases, reference)` to SPECS in its family's "
        "file under nn_from_scratch/specs/"
    )
