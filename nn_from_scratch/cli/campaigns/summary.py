"""What a campaign has found, for a terminal, for programs and as a document."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from nn_from_scratch.cli.campaigns.campaign import Campaign
    from nn_from_scratch.cli.campaigns.checking import CaseResult

__all__ = ["to_document", "to_json", "to_text"]

_STATUS = {0: "passed", 1: "failed", 2: "failed", 3: "undecided"}


def to_text(campaign: Campaign) -> str:
    """The reports of what is not correct, and the counts."""
    parts = [f"\n{result.case}\n{result.text}\n" for result in _bad(campaign) if result.text]
    return f"{''.join(parts)}{_headline(campaign)}\n"


def to_json(campaign: Campaign) -> dict[str, Any]:
    """Everything, as a results file; cases in the order of the campaign's file."""
    results = {
        "campaign": str(campaign.path),
        "counts": campaign.counts,
        "status": campaign.status,
        "seconds": campaign.seconds,
        "cases": [
            {**campaign.results[case.id].to_json(), "command": _command(campaign, case.id)} for case in campaign.cases
        ],
    }
    return envelope("verification", results, commands=[_command(campaign)])


def to_document(campaign: Campaign) -> Document:
    """The verdict, a table of all cases, and the reports of those that are not correct."""
    cases = Table(
        "All cases; a margin is |difference| / allowed, and wrong above 1; the time is in seconds.",
        ("case", "verdict", "worst margin", "seconds", "why", "reproduce"),
        tuple((*_row(campaign.results[case.id]), Code(_command(campaign, case.id))) for case in campaign.cases),
    )
    bad = [
        Section(
            result.case,
            (
                Text(f"{result.verdict}: {result.message}"),
                *([Details("the whole report", result.text)] if result.text else []),
                Commands((_command(campaign, result.case),)),
            ),
        )
        for result in _bad(campaign)
    ]
    return Document(
        title=f"Verification campaign {campaign.path.name}",
        verdict=Conclusion(_STATUS[campaign.status], _headline(campaign)),
        sections=(Section("Cases", (cases,)), *bad),
        environment=environment(),
        commands=(_command(campaign),),
    )


def _row(result: CaseResult) -> tuple[CellValue, ...]:
    margin = (result.report or {}).get("worst_margin")  # infinity is a text in JSON
    shown = Cell(margin, float(margin)) if isinstance(margin, str) else margin
    return result.case, result.verdict, shown, round(result.seconds, 3), result.message


def _headline(campaign: Campaign) -> str:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in campaign.counts.items() if count)
    return f"{len(campaign.cases)} cases: {counts}"


def _bad(campaign: Campaign) -> list[CaseResult]:
    results = (campaign.results[case.id] for case in campaign.cases)
    return [result for result in results if result.verdict != "correct"]


def _command(campaign: Campaign, case: str | None = None) -> str:
    one = "" if case is None else f" --only {shlex.quote(case)} --jobs 0"
    return f"nn-from-scratch verify --campaign {shlex.quote(str(campaign.path))}{one}"
