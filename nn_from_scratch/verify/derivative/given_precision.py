"""Backwards that compute in float32 whatever they are given, as `torch.zeros(n)` is of the default dtype."""

from __future__ import annotations

import torch

from nn_from_scratch.verify.derivative import constants
from nn_from_scratch.verify.derivative.probes import VariedOperand
from nn_from_scratch.verify.results import CheckResult, Verdict


def as_exact_as_given(varied: VariedOperand, result: CheckResult) -> bool:
    """Whether a gradient that was given in float32 is wrong in float64 by no more than a few roundings of float32.

    Then it says nothing about the subject in the dtype that it was given in.
    """
    mismatch, gradient = result.mismatch, varied.gradient
    given, checked = varied.operand.value.dtype, varied.x.dtype
    if result.verdict is not Verdict.WRONG or given == checked or gradient is None or mismatch is None:
        return False
    values = gradient.detach().to(torch.float64)
    size = float(torch.linalg.vector_norm(values))
    if mismatch.index is not None and values.numel():
        # A single entry: its own size, or the typical one, as an entry may be what a cancellation left over.
        size = max(abs(mismatch.numeric), size / values.numel() ** (1 / 2))
    return mismatch.difference <= constants.SINGLE_ROUNDINGS * torch.finfo(torch.float32).eps * size
