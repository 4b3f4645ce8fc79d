"""Hypotheses, the explanations that they propose, and how an explanation is compared with the gradient.

An explanation predicts the analytic gradient. It fits if the prediction meets every entry that it speaks of, within
the error allowed there. That may be chance: a scalar is always some factor times another scalar. So it also has to
carry *evidence*, in bits: an entry gives log2(distance between the prediction and the true gradient / allowed error),
since an entry that the true gradient would explain as well tells nothing; each value that was fitted to the gradient
costs the most telling entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from nn_from_scratch.verify.diagnosis.constants import BITS_PER_COMPLEXITY, MOST_BITS_PER_ENTRY, NEEDED_BITS, TINY
from nn_from_scratch.verify.diagnosis.probing import Probes
from nn_from_scratch.verify.diagnosis.problem import Problem, UncertainTensor


@dataclass(frozen=True)
class Explanation:
    """One possible fault with the gradient that it would give.

    Attributes:
        kind: The diagnosis' identifier.
        claim: Completes the sentence "The gradient of x ...".
        complexity: How much has to be assumed (see `constants`); the simplest explanation that fits is named.
        prediction: What the observed tensor should be, and the allowed error. None for an explanation that only says
            where the gradient is right and where it is wrong, and that has checked this itself.
        observed: What the prediction is compared with; the analytic gradient if None.
        speaks: Entries that the prediction speaks of (bool); all if None.
        fitted: How many values were read off the analytic gradient.
        details: Figures for the diagnosis.
    """

    kind: str
    claim: str
    complexity: float
    prediction: UncertainTensor | None
    observed: Tensor | None = None
    speaks: Tensor | None = None
    fitted: int = 0
    details: Mapping[str, object] = field(default_factory=dict)

    def fits(self, problem: Problem) -> bool:
        """Whether the prediction meets the gradient in every entry that it speaks of, and not by chance."""
        if self.prediction is None:
            return True
        observed = problem.analytic if self.observed is None else self.observed
        value, allowed = self.prediction.value, self.prediction.allowed
        if observed.shape != value.shape or not observed.numel():
            return False
        right = (observed - value).abs() <= allowed
        if not bool(right.all() if self.speaks is None else (right | ~self.speaks).all()):
            return False
        comparable = self.observed is None and value.shape == problem.numeric.shape
        distance = (value - problem.numeric if comparable else value).abs()
        if self.speaks is not None:
            distance, allowed = distance[self.speaks], allowed[self.speaks]
        bits = (distance / allowed.clamp(min=TINY)).clamp(1.0, 2.0**MOST_BITS_PER_ENTRY).log2().flatten()
        told = bits.sort(descending=True).values[self.fitted :]
        return float(told.sum()) >= NEEDED_BITS + BITS_PER_COMPLEXITY * self.complexity


@dataclass(frozen=True)
class Hypothesis:
    """A function that proposes explanations of a wrong gradient.

    Attributes:
        group: The kind of a diagnosis where several explanations of this group fit equally well.
        simplest: The least complexity of its explanations. The search tries the hypotheses in this order, and leaves
            out those that can propose nothing as simple as what fits.
        scalable: Whether its explanations may be combined with a wrong sign or a factor that has a name.
        any_shape: Whether it can explain a gradient of another shape than the tensor's; others are not asked to.
        experimental: Whether it needs gradients of other experiments; it is left out where a plain explanation fits.
    """

    group: str
    simplest: float
    propose: Callable[[Problem, Probes], Iterator[Explanation]]
    scalable: bool
    any_shape: bool
    experimental: bool


HYPOTHESES: list[Hypothesis] = []
"""All that are registered, by the decorators below."""

_Given = Callable[[Problem], Iterator[Explanation]]
_Experiment = Callable[[Problem, Probes], Iterator[Explanation]]


def hypothesis(
    group: str, *, simplest: float, scalable: bool = True, any_shape: bool = False
) -> Callable[[_Given], _Given]:
    """Register a function from a problem to explanations, which looks only at what the problem states.

    Args:
        group, simplest, scalable, any_shape: See `Hypothesis`.
    """

    def register(propose: _Given) -> _Given:
        given = Hypothesis(group, simplest, lambda problem, probes: propose(problem), scalable, any_shape, False)
        HYPOTHESES.append(given)
        return propose

    return register


def experiment(
    group: str, *, simplest: float, scalable: bool = True, any_shape: bool = False
) -> Callable[[_Experiment], _Experiment]:
    """Register a function from a problem and its probes to explanations; the arguments are those of `hypothesis`."""

    def register(propose: _Experiment) -> _Experiment:
        HYPOTHESES.append(Hypothesis(group, simplest, propose, scalable, any_shape, True))
        return propose

    return register
