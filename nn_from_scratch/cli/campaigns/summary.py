"""What a campaign has found, for a terminal, for programs and as Markdown."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nn_from_scratch.cli.campaigns.campaign import Campaign
    from nn_from_scratch.cli.campaigns.checking import CaseResult

__all__ = ["SCHEMA", "to_json", "to_markdown", "to_text"]

SCHEMA = "nn_from_scratch.campaign/1"
#: Markdown above a megabyte is cut by those who show it; the reports that no longer fit are in the JSON.
_MOST = 900_000


def to_text(campaign: Campaign) -> str:
    """The reports of what is not correct, and the counts."""
    parts = [f"\n{result.case}\n{result.text}\n" for result in _bad(campaign) if result.text]
    return f"{''.join(parts)}{_headline(campaign)}\n"


def to_json(campaign: Campaign) -> dict[str, Any]:
    """Everything, as JSON values; cases in the order of the file."""
    return {
        "schema": SCHEMA,
        "campaign": str(campaign.path),
        "counts": campaign.counts,
        "status": campaign.status,
        "seconds": campaign.seconds,
        "cases": [
            {**_of(campaign, case.id).to_json(), "command": _command(campaign, case.id)} for case in campaign.cases
        ],
    }


def to_markdown(campaign: Campaign) -> str:
    """The counts, a table of all cases, and the reports of those that are not correct."""
    lines = [f"# Verification campaign {campaign.path.name}", "", f"**{_headline(campaign)}**", ""]
    lines += ["| case | verdict | worst margin | seconds | why |", "|---|---|--:|--:|---|"]
    for case in campaign.cases:
        result = _of(campaign, case.id)
        margin = (result.report or {}).get("worst_margin")
        shown = f"{margin:.2g}" if isinstance(margin, float) else str(margin or "")
        why = result.message.replace("|", "\\|")
        lines.append(f"| `{case.id}` | {result.verdict} | {shown} | {result.seconds:.2f} | {why[:300]} |")
    text = "\n".join(lines) + "\n"
    for result in _bad(campaign):
        again = _command(campaign, result.case)
        part = f"\n## {result.case}\n\n```text\n{result.text or result.message}\n```\n\nTo do it again: `{again}`\n"
        if len(text.encode()) + len(part.encode()) > _MOST:
            return f"{text}\nFurther reports are in the JSON file (`--json`).\n"
        text += part
    return text


def _headline(campaign: Campaign) -> str:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in campaign.counts.items() if count)
    return f"{len(campaign.cases)} cases: {counts}"


def _bad(campaign: Campaign) -> list[CaseResult]:
    results = (_of(campaign, case.id) for case in campaign.cases)
    return [result for result in results if result.verdict != "correct"]


def _of(campaign: Campaign, case: str) -> CaseResult:
    return campaign.results[case]


def _command(campaign: Campaign, case: str) -> str:
    return f"nn-from-scratch verify --campaign {shlex.quote(str(campaign.path))} --only {shlex.quote(case)} --jobs 0"
