"""A catalogue of subjects, as data, and the pyramid of checks over it; it knows nothing of this package's engine.

An entry names a class, its cases and the function of torch that it must equal; `trials_of` makes of a catalogue one
trial for each case, dtype, device and check. `nn_from_scratch.testing.pyramid` runs a test once for each of them.
Importing it imports no torch.
"""

from __future__ import annotations

from nn_from_scratch.verify.catalogue.entries import (
    Case,
    Entry,
    Exemption,
    OptimizerSpec,
    Reference,
    Shape,
    Spec,
    name_of,
)
from nn_from_scratch.verify.catalogue.trials import CHECKS, Trial, trials_of

__all__ = [
    "CHECKS",
    "Case",
    "Entry",
    "Exemption",
    "OptimizerSpec",
    "Reference",
    "Shape",
    "Spec",
    "Trial",
    "name_of",
    "trials_of",
]
