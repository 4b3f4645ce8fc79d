"""Backward passes with a known fault, by layer: what a diagnosis has to name.

`CATALOGUE` is data. Every entry can be had as a custom autograd function (`fault.function()`) and as a pair
(`fault.reference`, `fault.backward`), so that a test can send it through any entrance of the verifier.
"""

from tests.unit.verify.planted.activations import ACTIVATIONS
from tests.unit.verify.planted.attention_and_indexing import ATTENTION_AND_INDEXING
from tests.unit.verify.planted.compositions import COMPOSITIONS
from tests.unit.verify.planted.convolutions import CONVOLUTIONS
from tests.unit.verify.planted.fault import PlantedFault
from tests.unit.verify.planted.linear import LINEAR
from tests.unit.verify.planted.normalizations import NORMALIZATIONS
from tests.unit.verify.planted.pooling import POOLING
from tests.unit.verify.planted.reductions import REDUCTIONS
from tests.unit.verify.planted.softmax_and_losses import SOFTMAX_AND_LOSSES

__all__ = ["CATALOGUE", "PlantedFault"]

CATALOGUE: tuple[PlantedFault, ...] = (
    *LINEAR,
    *CONVOLUTIONS,
    *NORMALIZATIONS,
    *SOFTMAX_AND_LOSSES,
    *POOLING,
    *REDUCTIONS,
    *ACTIVATIONS,
    *ATTENTION_AND_INDEXING,
    *COMPOSITIONS,
)
