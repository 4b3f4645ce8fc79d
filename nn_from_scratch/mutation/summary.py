"""What came out of a campaign: the survivors, and a table of which tests kill how many mutants."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from nn_from_scratch.mutation.coordinator import MutationCampaign
from nn_from_scratch.mutation.equivalents import Equivalent
from nn_from_scratch.mutation.mutant import MutantOutcome, MutantResult

SCHEMA = "nn_from_scratch.mutation/1"


class MutationSummary:
    """Counts and lists; mutants that are claimed to be equivalent are in none of the counts.

    Args:
        campaign: after its run.
        claims: of equivalence, by id of the mutant.

    Attributes:
        mutants: those that count.
        survivors: those of them that no group kills.
        equivalents: mutants that are claimed to be equivalent, and that no group kills.
        refuted: those that are claimed to be, but are killed: with the result that says by which test.
        first: by group, how many it is the first to kill, in the order of the groups.
        alone: by group, how many it kills whatever the others do; only of groups that were run on every mutant.
    """

    def __init__(self, campaign: MutationCampaign, claims: Mapping[str, Equivalent]) -> None:
        self.results = campaign.results
        references = campaign.reference_suites
        kills: defaultdict[str, dict[str, MutantResult]] = defaultdict(dict)  # by mutant, then by group
        for result in self.results:
            if result.outcome.killed:
                kills[result.mutant][result.group] = result
        self.mutants = [mutant for mutant in campaign.mutants if mutant.id not in claims]
        self.alone = {
            group: sum(group in kills[mutant.id] for mutant in self.mutants)
            for group in campaign.groups
            if campaign.every_group or group in references
        }
        counted = [group for group in campaign.groups if group not in references]
        killers = {
            mutant: {group: found[group] for group in counted if group in found} for mutant, found in kills.items()
        }
        self._kills = {mutant.id: killers[mutant.id] for mutant in self.mutants if killers.get(mutant.id)}
        self.survivors = [mutant for mutant in self.mutants if mutant.id not in self._kills]
        first = Counter(next(iter(found)) for found in self._kills.values())
        self.first = {group: first[group] for group in counted}
        claimed = [(mutant, claims[mutant.id]) for mutant in campaign.mutants if mutant.id in claims]
        self.equivalents = [(mutant, claim) for mutant, claim in claimed if not killers.get(mutant.id)]
        self.refuted = [
            (mutant, next(iter(killers[mutant.id].values()))) for mutant, _ in claimed if killers.get(mutant.id)
        ]

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON values."""
        operators = Counter(f"{mutant.kind}: {mutant.operator}" for mutant in self.mutants)
        left = Counter(f"{mutant.kind}: {mutant.operator}" for mutant in self.survivors)
        return {
            "schema": SCHEMA,
            "mutants": len(self.mutants),
            "kinds": self._kinds(),
            "noticed": len(self._kills),
            "noticed_by_time_or_crash": self._abrupt(),
            "noticed_first_by": self.first,
            "noticed_alone_by": self.alone,
            "operators": {name: {"mutants": n, "survivors": left[name]} for name, n in sorted(operators.items())},
            "survivors": [vars(mutant) for mutant in self.survivors],
            "equivalents": [{"id": m.id, "diff": m.diff, "reason": claim.reason} for m, claim in self.equivalents],
            "refuted_claims": [{"id": m.id, "test": r.test, "message": r.message} for m, r in self.refuted],
            "results": [
                {name: getattr(result, name) for name in ("mutant", "group", "outcome", "test", "message")}
                for result in self.results
            ],
        }

    def findings(self) -> str:
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
        return "".join(f"{line}\n" for line in lines)

    def table(self) -> list[list[str]]:
        """The head and a row for each group, as texts."""
        rows = [["tests", "killed first", *(["killed alone", "share"] if self.alone else [])]]
        for group in dict.fromkeys([*self.first, *self.alone]):
            row = [group or "all", str(self.first.get(group, "reference"))]
            if group in self.alone:
                row += [str(self.alone[group]), f"{100 * self.alone[group] / max(len(self.mutants), 1):.1f} %"]
            rows.append(row)
        return rows

    def headline(self) -> str:
        """How many mutants there are, and how many of them are killed."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self._kinds().items())
        share = f" ({100 * len(self._kills) / len(self.mutants):.1f} %)" if self.mutants else ""
        abrupt = f", {self._abrupt()} of them because the time was up or the process ended" if self._abrupt() else ""
        return f"{len(self.mutants)} mutants ({kinds}): {len(self._kills)} killed{share}{abrupt}"

    def _kinds(self) -> dict[str, int]:
        return dict(sorted(Counter(mutant.kind for mutant in self.mutants).items()))

    def _abrupt(self) -> int:
        """How many are killed by no failing test, but because the time was up or the process ended."""
        abrupt = {MutantOutcome.TIMEOUT, MutantOutcome.CRASHED}
        return sum({result.outcome for result in found.values()} <= abrupt for found in self._kills.values())
