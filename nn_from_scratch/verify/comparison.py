"""The one comparison, and the one mismatch message, that every check uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nn_from_scratch.errors import ShapeError
from nn_from_scratch.verify import constants

FOUND_AND_EXPECTED = ("found", "expected")
ANALYTIC_AND_NUMERIC = ("analytic", "numeric")

Counted = Literal["all", "sampled", "at least"]


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """Two tensors that should agree and do not: how far apart, where, and in how many entries.

    Attributes:
        index: The entry with the largest |difference| / allowed; None if only a projection was compared.
        analytic: What the subject returned there.
        numeric: What it should have returned there.
        allowed: The largest |difference| there that would have counted as agreement.
        count: How many entries differ by more than allowed; None if that was not looked into.
        counted: Whether `count` is exact ("all"), extrapolated from a sample, or a lower bound.
        sides: What the two are called: "analytic" and "numeric" where a gradient is compared with a numerical one.
    """

    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    allowed: float
    count: int | None
    total: int
    counted: Counted = "all"
    sides: tuple[str, str] = FOUND_AND_EXPECTED

    @classmethod
    def of_projection(cls, analytic: float, numeric: float, allowed: float, *, total: int) -> Mismatch:
        """Projections of two gradients onto a direction over so many entries, which are not looked at one by one."""
        return cls(
            index=None,
            analytic=analytic,
            numeric=numeric,
            allowed=allowed,
            count=None,
            total=total,
            sides=ANALYTIC_AND_NUMERIC,
        )

    @property
    def difference(self) -> float:
        """|analytic - numeric| at the worst entry; infinite when exactly one of them is NaN or infinite."""
        if self.analytic == self.numeric:
            return 0.0
        difference = abs(self.analytic - self.numeric)
        return difference if math.isfinite(difference) else math.inf

    @property
    def share(self) -> float | None:
        """The share of entries that differ, between 0 and 1; None if they were not counted."""
        return None if self.count is None or self.total == 0 else self.count / self.total

    def __str__(self) -> str:
        ours, theirs = self.sides
        values = f"{ours} {self.analytic:.9g}, {theirs} {self.numeric:.9g}, allowed ±{self.allowed:.2g}"
        if self.index is None:
            where = f"a projection onto a random direction over {self.total} entries differs"
            return f"{where}: {values}"
        worst = f"worst at {list(self.index)}: {values}"
        if self.count is None or self.share is None:
            return worst
        before = {"all": "", "sampled": "about ", "at least": "at least "}[self.counted]
        noun = "entry differs" if self.total == 1 else "entries differ"
        return f"{before}{self.count} of {self.total} {noun} ({percent(self.share)}); {worst}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The outcome of `compare`.

    Attributes:
        margin: The largest |difference| / allowed; above 1 the tensors differ.
        mismatch: None when they agree.
    """

    margin: float
    mismatch: Mismatch | None


def compare(
    analytic: Tensor, numeric: Tensor, allowed: Tensor | float, *, sides: tuple[str, str] = FOUND_AND_EXPECTED
) -> Comparison:
    """Compare two tensors entry by entry; equal infinities and two NaN agree, one NaN never does.

    Args:
        analytic: What the subject returned, any shape and real dtype.
        numeric: What is right, of the same shape.
        allowed: The largest |difference| that counts as agreement, one number or one for each entry.
        sides: What the message calls the two.

    Raises:
        ShapeError: If the shapes differ.
    """
    if analytic.shape != numeric.shape:
        raise ShapeError(
            f"analytic has shape {list(analytic.shape)}, which should be numeric's, {list(numeric.shape)}."
        )
    if analytic.numel() == 0:
        return Comparison(margin=0.0, mismatch=None)
    a = analytic.detach().to("cpu", torch.float64)
    n = numeric.detach().to("cpu", torch.float64)
    bound = torch.as_tensor(allowed, dtype=torch.float64, device="cpu").expand(a.shape)
    difference = torch.where((a == n) | (a.isnan() & n.isnan()), 0.0, (a - n).abs())
    difference = difference.nan_to_num(nan=math.inf, posinf=math.inf)
    ratio = torch.where(difference > 0, difference / bound, 0.0)
    worst = torch.unravel_index(ratio.argmax(), a.shape) if a.dim() else ()
    margin = float(ratio[worst])
    wrong = ratio > 1
    if not bool(wrong.any()):
        return Comparison(margin=margin, mismatch=None)
    mismatch = Mismatch(
        index=tuple(int(i) for i in worst),
        analytic=float(a[worst]),
        numeric=float(n[worst]),
        allowed=float(bound[worst]),
        count=int(wrong.sum()),
        total=a.numel(),
        sides=sides,
    )
    return Comparison(margin=margin, mismatch=mismatch)


def percent(share: float) -> str:
    """A share between 0 and 1 in per cent, with three digits or as many as it takes not to say 100 %."""
    for digits in constants.PERCENT_DIGITS:
        text = f"{100 * share:.{digits}g}"
        if share >= 1 or float(text) < 100:
            return f"{text} %".replace("1e+02", "100")
    return "almost 100 %"
