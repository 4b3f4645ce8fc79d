"""The engine's own catalogue: for each layer, loss and optimizer its cases, and what of torch it must equal.

The tests run over it, so what is listed here is covered, and what is not fails a test; `exchange` finds the twin of a
layer in torch.nn here. The references stand here, and not beside the layers, because the engine knows nothing of
torch's differentiable functions.
"""

from __future__ import annotations

from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.parity.specs import activation, convolution, losses, normalization, optimizers, pooling, shape
from nn_from_scratch.verify.catalogue import Entry, OptimizerSpec, Spec

__all__ = ["CATALOGUE", "LAYERS", "OPTIMIZERS", "entry_of"]

LAYERS: tuple[Spec, ...] = tuple(
    sorted(
        (spec for family in (activation, convolution, losses, normalization, pooling, shape) for spec in family.SPECS),
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
    line, file = f"Spec({name}, cases, reference, twin=torch.nn.{name})", "its family's file"
    if issubclass(public, Optimizer):
        line, file = f"OptimizerSpec({name}, cases, torch.optim.{name}, Held)", "optimizers.py"
    raise KeyError(f"{name} has no entry: add `{line}` to SPECS in {file} under nn_from_scratch/parity/specs/")
