"""What came out of a campaign: the survivors, and a table of which tests kill how many mutants."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nn_from_scratch.mutation.equivalents import Equivalent
from nn_from_scratch.mutation.mutant import Mutant, MutantOutcome, MutantResult

__all__ = ["SCHEMA", "MutationSummary", "summarize"]

SCHEMA = "nn_from_scratch.mutation/1"


@dataclass
class MutationSummary:
    """Counts and lists; mutants that are equivalent are in none of the counts.

    Attributes:
        mutants: how many count.
        kinds: how many of each kind.
        survivors: killed by no group.
        equivalents: claimed to be equivalent, and killed by no group.
        refuted: claimed to be equivalent, but killed: with the test that did.
        first: by group, how many it is the first to kill, in the order of the groups.
        alone: by group, how many it kills whatever the others do; only of groups that were run on every mutant.
        by_operator: by operator, the numbers of all and of survivors.
        slow: how many were killed because the time was up or the process ended.
        results: of each mutant and group.
    """

    mutants: int
    kinds: dict[str, int]
    survivors: list[Mutant]
    equivalents: list[tuple[Mutant, Equivalent]]
    refuted: list[tuple[Mutant, MutantResult]]
    first: dict[str, int]
    alone: dict[str, int]
    by_operator: dict[str, tuple[int, int]]
    slow: int = 0
    results: list[MutantResult] = field(default_factory=list)

    @property
    def killed(self) -> int:
        """How many some group kills."""
        return self.mutants - len(self.survivors)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "schema": SCHEMA,
            "mutants": self.mutants,
            "kinds": self.kinds,
            "noticed": self.killed,
            "noticed_by_time_or_crash": self.slow,
            "noticed_first_by": self.first,
            "noticed_alone_by": self.alone,
            "operators": {name: {"mutants": n, "survivors": left} for name, (n, left) in self.by_operator.items()},
            "survivors": [vars(mutant) for mutant in self.survivors],
            "equivalents": [{"id": m.id, "diff": m.diff, "reason": claim.reason} for m, claim in self.equivalents],
            "refuted_claims": [{"id": m.id, "test": r.test, "message": r.message} for m, r in self.refuted],
            "results": [
                {name: getattr(result, name) for name in ("mutant", "group", "outcome", "test", "message")}
                for result in self.results
            ],
        }

    def table(self) -> list[list[str]]:
        """The head and a row for each group, as texts."""
        rows = [["tests", "killed first", *(["killed alone", "share"] if self.alone else [])]]
        for group in dict.fromkeys([*self.first, *self.alone]):
            row = [group or "all", str(self.first.get(group, "reference"))]
            if group in self.alone:
                row += [str(self.alone[group]), f"{100 * self.alone[group] / max(self.mutants, 1):.1f} %"]
            rows.append(row)
        return rows

    def findings(self) -> list[str]:
        """Lines that list the survivors and the claims of equivalence."""
        lines = []
        for mutant in self.survivors:
            lines += [f"no test kills {mutant.id}", *(f"    {line}" for line in mutant.diff.splitlines()), ""]
        for mutant, result in self.refuted:
            lines.append(f"claimed to be equivalent, but killed: {mutant.id} by {result.test}: {result.message}")
        if self.equivalents:
            lines.append(f"{len(self.equivalents)} equivalent, not counted:")
            lines += [f"    {mutant.id}: {claim.reason}" for mutant, claim in self.equivalents]
            lines.append("")
        return lines

    def headline(self) -> str:
        """How many mutants there are, and how many of them are killed."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items())
        share = f" ({100 * self.killed / self.mutants:.1f} %)" if self.mutants else ""
        slow = f", {self.slow} of them because the time was up or the process ended" if self.slow else ""
        return f"{self.mutants} mutants ({kinds}): {self.killed} killed{share}{slow}"


def summarize(
    mutants: Sequence[Mutant],
    results: Sequence[MutantResult],
    groups: Sequence[str],
    claims: Mapping[str, Equivalent],
    *,
    every_group: bool,
    reference_suites: Collection[str] = (),
) -> MutationSummary:
    """Count which groups kill which mutants.

    Args:
        mutants: all of them.
        results: of each mutant, by the groups that were run on it.
        groups: in order.
        claims: by id of the mutant.
        every_group: whether all groups were run on every mutant.
        reference_suites: groups that were run for comparison, and do not count.
    """
    compared = [group for group in groups if every_group or group in reference_suites]
    kills: dict[str, dict[str, MutantResult]] = defaultdict(dict)  # by mutant, then by group
    for result in results:
        if result.outcome.killed:
            kills[result.mutant][result.group] = result
    alone = {group: sum(group in kills[m.id] and m.id not in claims for m in mutants) for group in compared}
    for found in kills.values():
        for group in reference_suites:
            found.pop(group, None)
    counted = [mutant for mutant in mutants if mutant.id not in claims]
    survivors = [mutant for mutant in counted if not kills[mutant.id]]
    first = Counter(
        next(group for group in groups if group in kills[mutant.id]) for mutant in counted if kills[mutant.id]
    )
    operators = Counter(f"{mutant.kind}: {mutant.operator}" for mutant in counted)
    left = Counter(f"{mutant.kind}: {mutant.operator}" for mutant in survivors)
    claimed = [(mutant, claims[mutant.id]) for mutant in mutants if mutant.id in claims]
    abrupt = (MutantOutcome.TIMEOUT, MutantOutcome.CRASHED)
    return MutationSummary(
        mutants=len(counted),
        kinds=dict(sorted(Counter(mutant.kind for mutant in counted).items())),
        survivors=survivors,
        equivalents=[(mutant, claim) for mutant, claim in claimed if not kills[mutant.id]],
        refuted=[(mutant, next(iter(kills[mutant.id].values()))) for mutant, _ in claimed if kills[mutant.id]],
        first={group: first[group] for group in groups if group not in reference_suites},
        alone=alone,
        by_operator={name: (operators[name], left[name]) for name in sorted(operators)},
        slow=sum(bool(kills[m.id]) and all(r.outcome in abrupt for r in kills[m.id].values()) for m in counted),
        results=list(results),
    )
