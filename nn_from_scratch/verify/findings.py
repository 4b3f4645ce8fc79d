"""Results put together by what they show: a fault that several checks see is one finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nn_from_scratch.verify.results import CheckResult, Verdict

#: What is told at length, the worst first.
TOLD = (Verdict.WRONG, Verdict.FRAGILE, Verdict.UNDECIDED)
#: The check of the gradient at the given inputs: where that is wrong, other numbers about it are no news.
_FIRST = "gradient"
#: Checks that see the same fault, of how a backward counts samples.
_OF_SAMPLES = ("batch_consistency", "other_shapes")


@dataclass(frozen=True)
class Finding:
    """One fault, or one reason for being undecided.

    Attributes:
        result: what shows it best.
        same: results that say the same of another tensor or in another check.
        also: results of other checks that show the same fault.
    """

    result: CheckResult
    same: tuple[CheckResult, ...] = ()
    also: tuple[CheckResult, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain data: what shows it, and the labels of what says and shows the same."""
        return {**self.result.to_dict(), "label": self.label, "also_at": self.also_at}

    @property
    def label(self) -> str:
        """The names of the checks and tensors that say the same: "gradient of x, gradient of y"."""
        return ", ".join(dict.fromkeys(result.label for result in (self.result, *self.same)))

    @property
    def also_at(self) -> str:
        """The names of the other checks that show it, with their tensors; empty if there are none."""
        return ", ".join(dict.fromkeys(result.label for result in self.also))


def findings(results: Sequence[CheckResult]) -> list[Finding]:
    """What is wrong, fragile or undecided, each once, in this order.

    A gradient that is wrong at the given inputs is one finding with all other numbers about the same tensor. Otherwise
    results of one verdict are one where they say the same: the same reason without numbers, or the same reason of one
    check for several tensors.
    """
    told = [result for verdict in TOLD for result in results if result.verdict is verdict]
    wrong = {r.tensor for r in told if r.check == _FIRST and r.verdict is Verdict.WRONG and r.mismatch is not None}
    found: list[Finding] = []
    shown: set[int] = set()
    for result in told:
        if id(result) in shown:
            continue
        others = [r for r in told if r is not result and id(r) not in shown]
        same: tuple[CheckResult, ...] = ()
        also: tuple[CheckResult, ...] = ()
        if result.check == _FIRST and result.tensor in wrong:
            also = tuple(r for r in others if r.tensor == result.tensor and r.mismatch is not None)
        else:
            same = tuple(r for r in others if _says_the_same(r, result) and r.tensor not in wrong)
            if result.check in _OF_SAMPLES:
                also = tuple(
                    r for r in others if r.check in _OF_SAMPLES and r not in same and r.verdict is result.verdict
                )
        shown.update(id(r) for r in (result, *same, *also))
        found.append(Finding(result, same, also))
    return found


def _says_the_same(one: CheckResult, other: CheckResult) -> bool:
    if one.verdict is not other.verdict or (one.reason, one.diagnosis) != (other.reason, other.diagnosis):
        return False
    if one.mismatch is None and other.mismatch is None:
        return True
    return one.check == other.check != _FIRST and one.reason is not None
