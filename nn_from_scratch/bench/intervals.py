"""How much slower, and how sure: log ratios of pairs, their median, and a seeded bootstrap interval of it.

A pair is two durations that were taken one right after the other, so whatever slows the machine for longer than that
slows both, and leaves their ratio alone. The median forgets the pairs that something shorter has hit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nn_from_scratch.errors import ArgumentError

Array = NDArray[np.float64]

# Resamples: at least, at most, and for each 1/alpha, so that some lie beyond the bounds.
_MIN_RESAMPLES, _MAX_RESAMPLES, _BEYOND = 2_000, 20_000, 10
# Numbers drawn in all, and at once, which bounds time and memory.
_IN_ALL, _AT_ONCE = 1_000_000, 500_000


@dataclass(frozen=True)
class Interval:
    """A median of log ratios and its confidence interval."""

    middle: float
    lower: float
    upper: float

    @property
    def ratio(self) -> float:
        """The median as a ratio: 1.1 is ten percent slower."""
        return math.exp(self.middle)

    @property
    def ratios(self) -> tuple[float, float]:
        """The bounds as ratios."""
        return math.exp(self.lower), math.exp(self.upper)

    def to_json(self) -> list[float]:
        """The median and the bounds, as ratios."""
        return [self.ratio, *self.ratios]

    def __str__(self) -> str:
        low, high = self.ratios
        return f"{self.ratio:.3f} [{low:.3f}, {high:.3f}]"


def log_ratios(candidate: Sequence[float], reference: Sequence[float]) -> list[float]:
    """log(c / r) of each pair.

    Args:
        candidate, reference: seconds, positive, of one length.

    Raises:
        ArgumentError: the lengths differ, or a duration is not positive.
    """
    if len(candidate) != len(reference):
        raise ArgumentError(f"candidate has {len(candidate)} durations and reference {len(reference)}; pairs have both")
    worst = min((*candidate, *reference), default=1.0)
    if not worst > 0:
        raise ArgumentError(f"a duration is {worst} s, but only positive ones have a ratio; time more calls at once")
    return [math.log(c / r) for c, r in zip(candidate, reference, strict=True)]


def bootstrap(groups: Sequence[Sequence[float]], *, alpha: float = 0.05, seed: int = 0) -> Interval:
    """The median of all values, and an interval that misses the true one with probability alpha.

    Groups are drawn with replacement, and then values within each drawn group: pairs of the same two processes share
    what these processes are like (where their memory lies, how their hashes fall), so ten of one group tell less
    than one of each of ten.

    Args:
        groups: at least one, all of one size; pairs that share nothing are groups of one.
        alpha: probability, half of it on each side.
        seed: of the draws; the same values give the same interval.

    Raises:
        ArgumentError: there is no value, the sizes differ, or alpha is not a probability.
    """
    sizes = {len(group) for group in groups}
    if len(sizes) != 1 or not sizes - {0}:
        raise ArgumentError(f"groups have the sizes {sorted(sizes)}, but one size of at least 1 is expected")
    if not 0 < alpha < 1:
        raise ArgumentError(f"alpha is {alpha}, but a probability between 0 and 1 is expected")
    values = np.asarray(groups, dtype=np.float64)  # (G, K)
    most = min(_MAX_RESAMPLES, max(_MIN_RESAMPLES, _IN_ALL // values.size))
    total = min(max(_MIN_RESAMPLES, math.ceil(_BEYOND / alpha)), most)
    at_once = max(_AT_ONCE // values.size, 1)
    draw = np.random.default_rng(seed)
    medians = [_resampled(values, min(at_once, total - done), draw) for done in range(0, total, at_once)]
    lower, upper = np.quantile(np.concatenate(medians), (alpha / 2, 1 - alpha / 2))
    return Interval(float(np.median(values)), float(lower), float(upper))


def _resampled(values: Array, n: int, draw: np.random.Generator) -> Array:
    """Medians of n resamples of (G, K) values: (n,)."""
    G, K = values.shape
    if K == 1:
        return _resampled_singles(np.sort(values[:, 0]), n, draw)
    groups = draw.integers(0, G, (n, G, 1))
    places = draw.integers(0, K, (n, G, K))
    medians: Array = np.median(values[groups, places].reshape(n, G * K), axis=1)
    return medians


def _resampled_singles(ordered: Array, n: int, draw: np.random.Generator) -> Array:
    """Medians of n resamples of ordered values, without drawing the resamples: (n,).

    The k-th smallest of G places drawn uniformly is floor(G U), where U, the k-th smallest of G numbers between 0 and
    1, has the distribution Beta(k, G + 1 - k); and the next one lies beyond U as the smallest of G - k such numbers.
    """
    G = len(ordered)
    k = (G + 1) // 2
    u = draw.beta(k, G + 1 - k, n)
    lower: Array = ordered[np.minimum((G * u).astype(int), G - 1)]
    if G % 2:
        return lower
    following = u + (1 - u) * draw.beta(1, G - k, n)
    upper: Array = ordered[np.minimum((G * following).astype(int), G - 1)]
    middle: Array = (lower + upper) / 2
    return middle
