"""The engine's own catalogue: for each layer, loss and optimizer its cases, and what of torch it must equal.

The tests run over it, so what is listed here is covered, and what is not fails a test. The references live here, and
not beside the layers, because the engine knows nothing of torch's differentiable functions.
"""

from __future__ import annotations

from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.parity.specs import activation, convolution, losses, normalization, optimizers, pooling, shape
from nn_from_scratch.verify.catalogue import Entry, OptimizerSpec, Spec

__all__ = ["CATALOGUE", "LAYERS", "OPTIMIZERS", "entry_of"]

LAYERS: tuple[Spec, ...] = tuple(
    sorted(
        (spec for room in (activation, convolution, losses, normalization, pooling, shape) for spec in room.SPECS),
        key=lambda spec: spec.name,
    )
)
OPTIMIZERS: tuple[OptimizerSpec, ...] = optimizers.SPECS
CATALOGUE: tuple[Entry, ...] = (*LAYERS, *OPTIMIZERS)


def entry_of(public: type) -> Entry:
    """The entry of this layer, loss or optimizer.

    Raises:
        KeyError: there is none.
    """
    for entry in CATALOGUE:
        if public is (entry.subject if isinstance(entry, Spec) else entry.optimizer):
            return entry
    name = public.__name__
    line, room = f"Spec({name}, cases, reference)", "its family's file under nn_from_scratch/parity/specs/"
    if issubclass(public, Optimizer):
        line, room = (
            f"OptimizerSpec({name}, cases, torch.optim.{name}, Held)",
            "nn_from_scratch/parity/specs/optimizers.py",
        )
    raise KeyError(f"{name} has no entry: add `{line}` to SPECS in {room}")
