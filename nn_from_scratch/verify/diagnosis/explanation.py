"""One possible explanation of a wrong gradient, and how it is held against the gradient.

An explanation predicts the analytic gradient. It *fits* if the prediction meets every entry that it speaks
of, within the error allowed there. A fit may be chance: a scalar is always some factor times another
scalar. So it also has to carry *evidence*, in bits: an entry gives log2(distance between the prediction and
the true gradient / allowed error), since an entry that the true gradient would explain as well tells
nothing; each value that was fitted to the gradient costs the most telling entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nn_from_scratch.verify.diagnosis.problem import Estimate, Problem

__all__ = ["Explanation", "carries", "fits"]

_BITS_PER_ENTRY = 30.0
_NEEDED_BITS = 10.0
_BITS_PER_STEP = 2.0
_PROBE = 509


@dataclass(frozen=True)
class Explanation:
    """One hypothesis with its prediction.

    Attributes:
        kind: The diagnosis' identifier.
        family: What to call several explanations of this sort that fit equally well.
        claim: Completes the sentence "The gradient of x ...".
        complexity: How much has to be assumed; the simplest explanation that fits wins.
        prediction: What the observed tensor should be, and the allowed error. None for an explanation that
            only says where the gradient is right and where it is wrong, and that has checked this itself.
        observed: What the prediction is held against; the analytic gradient if None.
        speaks: Entries that the prediction speaks of; all if None.
        fitted: How many values were read off the analytic gradient.
        scalable: Whether it may be combined with a wrong sign or a named factor.
        details: Figures for the diagnosis.
    """

    kind: str
    family: str
    claim: str
    complexity: float
    prediction: Estimate | None
    observed: Tensor | None = None
    speaks: Tensor | None = None
    fitted: int = 0
    scalable: bool = True
    details: Mapping[str, object] = field(default_factory=dict)


def fits(problem: Problem, explanation: Explanation) -> bool:
    """Whether the prediction meets the gradient in every entry that it speaks of."""
    if explanation.prediction is None:
        return True
    observed = problem.analytic if explanation.observed is None else explanation.observed
    prediction = explanation.prediction
    if observed.shape != prediction.value.shape or not observed.numel():
        return False
    speaks = explanation.speaks
    if observed.numel() > _PROBE:
        # Most hypotheses fail everywhere; a few entries show it.
        step = observed.numel() // _PROBE
        few = prediction.rearranged(lambda t: t.reshape(-1)[::step])
        heard = None if speaks is None else speaks.reshape(-1)[::step]
        if not _near(observed.reshape(-1)[::step], few, heard):
            return False
    return _near(observed, prediction, speaks)


def _near(observed: Tensor, prediction: Estimate, speaks: Tensor | None) -> bool:
    right = (observed - prediction.value).abs() <= prediction.allowed
    return bool(right.all() if speaks is None else (right | ~speaks).all())


def carries(problem: Problem, explanation: Explanation) -> bool:
    """Whether a fit is more than chance: the evidence outweighs what the explanation assumes."""
    if explanation.prediction is None:
        return True
    prediction = explanation.prediction
    distance = prediction.value.abs()
    if explanation.observed is None and prediction.value.shape == problem.numeric.shape:
        distance = (prediction.value - problem.numeric).abs()
    if explanation.speaks is not None:
        distance = distance[explanation.speaks]
        allowed = prediction.allowed[explanation.speaks]
    else:
        allowed = prediction.allowed
    floor = torch.finfo(torch.float64).tiny
    bits = (distance / allowed.clamp(min=floor)).clamp(1.0, 2.0**_BITS_PER_ENTRY).log2().flatten()
    if explanation.fitted:
        if bits.numel() <= explanation.fitted:
            return False
        bits = bits.sort(descending=True).values[explanation.fitted :]
    return float(bits.sum()) >= _NEEDED_BITS + _BITS_PER_STEP * explanation.complexity
