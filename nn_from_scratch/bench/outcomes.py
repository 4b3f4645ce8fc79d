"""What a comparison of two commits, or of a commit with a stored baseline, has found; as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nn_from_scratch.bench.intervals import Interval
from nn_from_scratch.bench.verdicts import Verdict

__all__ = ["INCONCLUSIVE", "INVALID", "OK", "REGRESSED", "USAGE", "Outcome", "Result"]

#: Exit statuses.
OK, REGRESSED, INCONCLUSIVE, INVALID, USAGE = 0, 1, 2, 3, 4


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one benchmark.

    Attributes:
        name: of the benchmark.
        verdict: on time and counts together.
        reason: sentences.
        interval: of head by base; None where nothing could be measured.
        control: of base by itself; None where there is none.
        seconds: a call, by side ("candidate", "reference", "control"), one list for each process.
        counts: exact ones, by side ("candidate", "reference").
    """

    name: str
    verdict: Verdict
    reason: str
    interval: Interval | None = None
    control: Interval | None = None
    seconds: Mapping[str, list[list[float]]] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; intervals as ratios: middle, lower, upper."""
        return {
            "name": self.name,
            "verdict": str(self.verdict),
            "reason": self.reason,
            "interval": _ratios(self.interval),
            "control": _ratios(self.control),
            "seconds": {side: [list(group) for group in groups] for side, groups in self.seconds.items()},
            "counts": {side: dict(counts) for side, counts in self.counts.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Result:
    """Of all benchmarks.

    Attributes:
        outcomes: of those that both sides have.
        removed: names that the base has and the head has not, and that nobody allowed.
        allowed: such names that somebody did.
        added: names that only the head has.
        head, base: which commits or files these are.
        tolerance: by which a benchmark may be slower.
    """

    outcomes: tuple[Outcome, ...]
    removed: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    head: str = ""
    base: str = ""
    tolerance: float = 0.0

    def status(self, *, strict: bool = False) -> int:
        """The exit status; `strict` makes an inconclusive benchmark an error."""
        verdicts = {outcome.verdict for outcome in self.outcomes}
        if Verdict.REGRESSED in verdicts or self.removed:
            return REGRESSED
        if Verdict.INVALID in verdicts or not verdicts:
            return INVALID
        return INCONCLUSIVE if strict and Verdict.INCONCLUSIVE in verdicts else OK

    def summary(self, *, strict: bool = False) -> str:
        """One sentence that says why the status is what it is."""
        numbers = ", ".join(
            f"{number} {verdict}" for verdict in Verdict if (number := sum(o.verdict is verdict for o in self.outcomes))
        )
        removed = f"; removed without leave: {', '.join(self.removed)}" if self.removed else ""
        if not self.outcomes:
            return f"Nothing was compared, which is not a pass{removed}."
        words = {OK: "Passed", REGRESSED: "Failed", INCONCLUSIVE: "Undecided", INVALID: "Invalid"}
        return f"{words[self.status(strict=strict)]}: {numbers}{removed}."

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "what": "comparison",
            "head": self.head,
            "base": self.base,
            "tolerance": self.tolerance,
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
            "removed": list(self.removed),
            "allowed": list(self.allowed),
            "added": list(self.added),
        }


def _ratios(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.ratio, *interval.ratios]
