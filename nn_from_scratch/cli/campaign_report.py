"""A campaign and what it has found, for a terminal, for programs and as a document."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nn_from_scratch.cli.campaign_file import CampaignCase
from nn_from_scratch.cli.campaign_plugin import CaseResult
from nn_from_scratch.report.document import (
    Cell,
    CellValue,
    Code,
    Commands,
    Conclusion,
    Details,
    Document,
    Section,
    Table,
    Text,
)
from nn_from_scratch.report.results_file import envelope, environment

#: The exit status and the document's status that each verdict asks for, the worst verdict first.
_VERDICTS = {
    "wrong": (1, "failed"),
    "fragile": (1, "failed"),
    "limit": (1, "failed"),
    "error": (2, "failed"),
    "undecided": (3, "undecided"),
    "correct": (0, "passed"),
}


@dataclass
class VerificationCampaign:
    """The cases of one file and their results.

    Attributes:
        cases: what it holds, or some of that.
        results: by case, as far as they are known.
        seconds: duration of the last run.
    """

    path: Path
    cases: list[CampaignCase]
    results: dict[str, CaseResult] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def missing(self) -> list[str]:
        """The ids of the cases without a result."""
        return [case.id for case in self.cases if case.id not in self.results]

    @property
    def status(self) -> int:
        """The exit status: 0 if all have passed, 1 if one has failed, else 2 for an error and 3 for undecided."""
        return _VERDICTS[self._worst][0]

    @property
    def counts(self) -> dict[str, int]:
        """The number of cases of each verdict, zeros included."""
        counter = Counter(result.verdict for result in self.results.values())
        return {verdict: counter[verdict] for verdict in reversed(_VERDICTS)}

    def to_text(self) -> str:
        """The reports of what is not correct, and the counts."""
        parts = [f"\n{result.case}\n{result.text}\n" for result in self._bad() if result.text]
        return f"{''.join(parts)}{self._headline()}\n"

    def to_json(self) -> dict[str, Any]:
        """Everything, as a results file; cases in the order of the campaign's file."""
        results = {
            "campaign": str(self.path),
            "counts": self.counts,
            "status": self.status,
            "seconds": self.seconds,
            "cases": [{**asdict(self.results[case.id]), "command": self._command(case.id)} for case in self.cases],
        }
        return envelope("verification", results, commands=[self._command()])

    def to_document(self) -> Document:
        """The verdict, a table of all cases, and the reports of those that are not correct."""
        cases = Table(
            "All cases; a margin is |difference| / allowed, and wrong above 1; the time is in seconds.",
            ("case", "verdict", "worst margin", "seconds", "why", "reproduce"),
            tuple((*_row(self.results[case.id]), Code(self._command(case.id))) for case in self.cases),
        )
        bad = [
            Section(
                result.case,
                (
                    Text(f"{result.verdict}: {result.message}"),
                    *([Details("the whole report", result.text)] if result.text else []),
                    Commands((self._command(result.case),)),
                ),
            )
            for result in self._bad()
        ]
        return Document(
            title=f"Verification campaign {self.path.name}",
            verdict=Conclusion(_VERDICTS[self._worst][1], self._headline()),
            sections=(Section("Cases", (cases,)), *bad),
            environment=environment(),
            commands=(self._command(),),
        )

    @property
    def _worst(self) -> str:
        found = {"correct" if result.passed else result.verdict for result in self.results.values()}
        return next((verdict for verdict in _VERDICTS if verdict in found), "error")

    def _headline(self) -> str:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items() if count)
        return f"{len(self.cases)} cases: {counts}"

    def _bad(self) -> list[CaseResult]:
        results = (self.results[case.id] for case in self.cases)
        return [result for result in results if result.verdict != "correct"]

    def _command(self, case: str | None = None) -> str:
        one = "" if case is None else f" --only {shlex.quote(case)} --jobs 0"
        return f"nn-from-scratch verify --campaign {shlex.quote(str(self.path))}{one}"


def _row(result: CaseResult) -> tuple[CellValue, ...]:
    margin = (result.report or {}).get("worst_margin")  # infinity is a text in JSON
    shown = Cell(margin, float(margin)) if isinstance(margin, str) else margin
    return result.case, result.verdict, shown, round(result.seconds, 3), result.message
