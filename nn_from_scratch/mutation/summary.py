"""What came out of a campaign: the survivors, and a table of which tests notice how much."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nn_from_scratch.mutation.equivalents import Equivalent
from nn_from_scratch.mutation.mutant import Mutant
from nn_from_scratch.mutation.outcome import Outcome, Result

__all__ = ["SCHEMA", "Summary", "summarize"]

SCHEMA = "nn_from_scratch.mutation/1"


@dataclass
class Summary:
    """Counts and lists; mutants that are equivalent are in none of the counts.

    Attributes:
        mutants: how many count.
        kinds: how many of each kind.
        survivors: noticed by no group.
        equivalents: claimed to be equivalent, and noticed by nobody.
        refuted: claimed to be equivalent, but noticed: with the test that did.
        first: by group, how many it is the first to notice, in the order of the groups.
        alone: by group, how many it notices whatever the others do; only of groups that were run on every mutant.
        by_operator: by operator, the numbers of all and of survivors.
        slow: how many were noticed because the time was up or the process ended.
    """

    mutants: int
    kinds: dict[str, int]
    survivors: list[Mutant]
    equivalents: list[tuple[Mutant, Equivalent]]
    refuted: list[tuple[Mutant, Result]]
    first: dict[str, int]
    alone: dict[str, int]
    by_operator: dict[str, tuple[int, int]]
    slow: int = 0
    results: list[Result] = field(default_factory=list)

    @property
    def noticed(self) -> int:
        """How many some group notices."""
        return self.mutants - len(self.survivors)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "schema": SCHEMA,
            "mutants": self.mutants,
            "kinds": self.kinds,
            "noticed": self.noticed,
            "noticed_by_time_or_crash": self.slow,
            "noticed_first_by": self.first,
            "noticed_alone_by": self.alone,
            "operators": {name: {"mutants": n, "survivors": left} for name, (n, left) in self.by_operator.items()},
            "survivors": [mutant.to_json() for mutant in self.survivors],
            "equivalents": [{"id": m.id, "diff": m.diff, "reason": claim.reason} for m, claim in self.equivalents],
            "refuted_claims": [{"id": m.id, "test": r.test, "message": r.message} for m, r in self.refuted],
            "results": [
                {"mutant": r.mutant, "group": r.group, "outcome": r.outcome.value, "test": r.test, "message": r.message}
                for r in self.results
            ],
        }

    def __str__(self) -> str:
        lines = []
        for mutant in self.survivors:
            lines += [f"no test notices {mutant.id}", *(f"    {line}" for line in mutant.diff.splitlines()), ""]
        for mutant, result in self.refuted:
            lines.append(f"claimed to be equivalent, but noticed: {mutant.id} by {result.test}: {result.message}")
        if self.equivalents:
            lines.append(f"{len(self.equivalents)} equivalent, not counted:")
            lines += [f"    {mutant.id}: {claim.reason}" for mutant, claim in self.equivalents]
            lines.append("")
        lines += [*self._table(), ""]
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items())
        share = f" ({100 * self.noticed / self.mutants:.1f} %)" if self.mutants else ""
        slow = f", {self.slow} of them because the time was up or the process ended" if self.slow else ""
        lines.append(f"{self.mutants} mutants ({kinds}): {self.noticed} noticed{share}{slow}")
        return "\n".join(lines)

    def _table(self) -> list[str]:
        head = ["tests", "noticed first", *(["noticed alone", "share"] if self.alone else [])]
        rows = [head]
        for group in dict.fromkeys([*self.first, *self.alone]):
            row = [group or "all", str(self.first.get(group, "beside"))]
            if group in self.alone:
                row += [str(self.alone[group]), f"{100 * self.alone[group] / max(self.mutants, 1):.1f} %"]
            rows.append(row + [""] * (len(head) - len(row)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        return ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
                for row in rows]  # fmt: skip


def summarize(
    mutants: Sequence[Mutant],
    results: Sequence[Result],
    groups: Sequence[str],
    claims: Mapping[str, Equivalent],
    *,
    every_group: bool,
    beside: Collection[str] = (),
) -> Summary:
    """Count.

    Args:
        mutants: all of them.
        results: of each mutant, by the groups that were run on it.
        groups: in order.
        claims: by id of the mutant.
        every_group: whether all groups were run on every mutant.
        beside: groups that were run for comparison, and do not count.
    """
    compared = [group for group in groups if every_group or group in beside]
    alone = {group: {r.mutant for r in results if r.group == group and r.outcome.noticed} for group in compared}
    noticed: dict[str, dict[str, Result]] = defaultdict(dict)
    for result in results:
        if result.outcome.noticed and result.group not in beside:
            noticed[result.mutant][result.group] = result
    counted = [mutant for mutant in mutants if mutant.id not in claims]
    survivors = [mutant for mutant in counted if not noticed[mutant.id]]
    first = Counter(
        next(group for group in groups if group in noticed[mutant.id]) for mutant in counted if noticed[mutant.id]
    )
    operators: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    left = {mutant.id for mutant in survivors}
    for mutant in counted:
        name = f"{mutant.kind}: {mutant.operator}"
        operators[name][0] += 1
        operators[name][1] += mutant.id in left
    claimed = [(mutant, claims[mutant.id]) for mutant in mutants if mutant.id in claims]
    abrupt = (Outcome.TIMEOUT, Outcome.CRASHED)
    return Summary(
        mutants=len(counted),
        kinds=dict(sorted(Counter(mutant.kind for mutant in counted).items())),
        survivors=survivors,
        equivalents=[(mutant, claim) for mutant, claim in claimed if not noticed[mutant.id]],
        refuted=[(m, next(iter(noticed[m.id].values()))) for m, _ in claimed if noticed[m.id]],
        first={group: first[group] for group in groups if group not in beside},
        alone={group: sum(mutant.id in alone[group] for mutant in counted) for group in compared},
        by_operator={name: (n, k) for name, (n, k) in sorted(operators.items())},
        slow=sum(bool(noticed[m.id]) and all(r.outcome in abrupt for r in noticed[m.id].values()) for m in counted),
        results=list(results),
    )
