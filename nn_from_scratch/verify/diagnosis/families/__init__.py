"""Operations that a subject may be, recognized by their gradients, and the faults known for each."""

from nn_from_scratch.verify.diagnosis.families.attention import attention
from nn_from_scratch.verify.diagnosis.families.composition import composition
from nn_from_scratch.verify.diagnosis.families.contraction import contraction
from nn_from_scratch.verify.diagnosis.families.elementwise import elementwise
from nn_from_scratch.verify.diagnosis.families.indexing import indexing
from nn_from_scratch.verify.diagnosis.families.loss import loss
from nn_from_scratch.verify.diagnosis.families.normalization import normalization
from nn_from_scratch.verify.diagnosis.families.operation import Operation
from nn_from_scratch.verify.diagnosis.families.pooling import pooling
from nn_from_scratch.verify.diagnosis.families.reduction import reduction
from nn_from_scratch.verify.diagnosis.families.softmax import softmax

__all__ = ["FAMILIES", "Operation"]

FAMILIES = (
    elementwise,
    contraction,
    softmax,
    normalization,
    pooling,
    reduction,
    loss,
    indexing,
    attention,
    composition,
)
"""From a problem to the operations of one sort that it may be; the cheap and frequent ones first."""
