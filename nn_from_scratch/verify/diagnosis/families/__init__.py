"""Operations that a subject may be, recognised by their gradients, and the faults known for each."""

from nn_from_scratch.verify.diagnosis.families.contraction import contraction
from nn_from_scratch.verify.diagnosis.families.elementwise import elementwise
from nn_from_scratch.verify.diagnosis.families.loss import loss
from nn_from_scratch.verify.diagnosis.families.normalization import normalisation
from nn_from_scratch.verify.diagnosis.families.operation import Family, Fault
from nn_from_scratch.verify.diagnosis.families.pooling import pooling
from nn_from_scratch.verify.diagnosis.families.reduction import reduction
from nn_from_scratch.verify.diagnosis.families.softmax import softmax

__all__ = ["FAMILIES", "Family", "Fault"]

FAMILIES = (elementwise, contraction, softmax, normalisation, pooling, reduction, loss)
