"""Naming the fault of a wrong gradient.

`explain` holds the analytic gradient against transformations of the true one: a sign, a factor, exchanged
axes, a stale record, the derivative of a neighbour. A diagnosis explains the whole gradient within the
allowed error, or there is none.
"""

from nn_from_scratch.verify.diagnosis.context import Cotangents, Diagnosis, DiagnosisContext, GradientAt
from nn_from_scratch.verify.diagnosis.search import explain

__all__ = ["Cotangents", "Diagnosis", "DiagnosisContext", "GradientAt", "explain"]
