"""Naming the fault of a wrong gradient.

`explain` compares the analytic gradient with transformations of the true one: a sign, a factor, exchanged axes, a
stale record, the derivative of another function. A diagnosis explains the whole gradient within the allowed error, or
there is none. A new one is a function in `hypotheses/` that registers itself; nothing else has to know it.
"""

from nn_from_scratch.verify.diagnosis.explanation import Explanation, experiment, hypothesis
from nn_from_scratch.verify.diagnosis.problem import Cotangents, Diagnosis, DiagnosisContext, GradientAt, Problem
from nn_from_scratch.verify.diagnosis.search import explain

__all__ = [
    "Cotangents",
    "Diagnosis",
    "DiagnosisContext",
    "Explanation",
    "GradientAt",
    "Problem",
    "experiment",
    "explain",
    "hypothesis",
]
