"""The gradient is missing, zero, or the true one times a constant."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nn_from_scratch.verify.diagnosis.constants import PLAIN, SIGN, SPECIFIC, TRIVIAL
from nn_from_scratch.verify.diagnosis.explanation import Explanation, hypothesis
from nn_from_scratch.verify.diagnosis.factors import any_factor
from nn_from_scratch.verify.diagnosis.problem import Problem, UncertainTensor


@hypothesis("zero", simplest=TRIVIAL, scalable=False)
def zero(problem: Problem) -> Iterator[Explanation]:
    """Every entry is zero; the true gradient is not."""
    nothing = torch.zeros_like(problem.numeric)
    yield Explanation("zero", "is zero everywhere", TRIVIAL, UncertainTensor(nothing, nothing))


@hypothesis("factor", simplest=SIGN, scalable=False)
def sign(problem: Problem) -> Iterator[Explanation]:
    """The gradient is minus the true one."""
    yield Explanation("sign", "has the wrong sign", SIGN, problem.truth.scaled(-1.0))


@hypothesis("factor", simplest=PLAIN, scalable=False)
def factor(problem: Problem) -> Iterator[Explanation]:
    """The gradient is a constant times the true one."""
    found = any_factor(problem.analytic, problem.truth, problem)
    if found is not None:
        level, fitted = (PLAIN, 0) if found.known else (SPECIFIC, 1)
        prediction = problem.truth.scaled(found.value)
        yield Explanation("factor", str(found), level, prediction, fitted=fitted, details=found.details)
