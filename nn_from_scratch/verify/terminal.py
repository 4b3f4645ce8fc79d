"""The report as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nn_from_scratch.verify.results import Verdict

if TYPE_CHECKING:
    from nn_from_scratch.verify.results import CheckResult, Report

__all__ = ["report_text"]


def report_text(report: Report) -> str:
    """The verdict, then what is wrong, undecided and not applicable, then how to reproduce it.

    Args:
        report: The report to describe.
    """
    counts = report.counts
    summary = ", ".join(
        f"{counts[verdict.value]} {verdict}"
        for verdict in Verdict
        if counts[verdict.value] or verdict.value == "correct"
    )
    lines = [
        f"{report.subject} ({report.form}): {str(report.verdict).upper()}",
        f"  {summary} in {report.seconds:.2g} s",
    ]
    margin = report.worst_margin
    if margin is not None:
        lines[-1] += f"; worst |difference| / allowed {margin:.2g}"
    for verdict in (Verdict.WRONG, Verdict.UNDECIDED):
        lines += _findings([result for result in report.results if result.verdict is verdict])
    skipped = [result for result in report.results if result.verdict is Verdict.NOT_APPLICABLE]
    lines += [f"  not applicable: {result.label}: {result.reason}" for result in skipped]
    lines += [f"  note: {note}" for note in report.notes]
    environment = ", ".join(f"{key} {value}" for key, value in report.environment.items())
    lines.append(f"  seed {report.seed}, level {report.level}; {environment}")
    snippets = [r.snippet for r in report.results if r.verdict is Verdict.WRONG and r.snippet]
    if snippets:
        lines += ["  to reproduce:", *(f"    {line}".rstrip() for line in snippets[0].splitlines())]
    return "\n".join(lines)


def _findings(results: list[CheckResult]) -> list[str]:
    """What is wrong, or undecided; what says the same, or concerns a gradient already shown as wrong, in one line."""
    lines: list[str] = []
    wrong_gradients = {r.tensor for r in results if r.check == "gradient" and r.verdict is Verdict.WRONG and r.mismatch}
    shown: set[int] = set()
    for result in results:
        if id(result) in shown:
            continue
        if result.check == "gradient" and result.tensor in wrong_gradients:
            same: list[CheckResult] = []
            following = [r for r in results if r.tensor == result.tensor and r is not result and r.mismatch is not None]
        else:
            # Results with numbers of their own are told one by one.
            alike = [
                r
                for r in results
                if r.mismatch is None and (r.reason, r.diagnosis) == (result.reason, result.diagnosis)
            ]
            same, following = (alike if result.mismatch is None else []), []
        shown.update(id(r) for r in (result, *same, *following))
        labels = list(dict.fromkeys(r.label for r in same)) or [result.label]
        lines.append(f"  {str(result.verdict).upper()}: {', '.join(labels)}")
        lines += _result_lines(result)
        if following:
            lines.append(f"    also wrong there: {', '.join(dict.fromkeys(r.label for r in following))}")
    return lines


def _result_lines(result: CheckResult) -> list[str]:
    lines = []
    if result.reason:
        lines.append(f"    {result.reason}")
    if result.mismatch is not None:
        lines.append(f"    {result.mismatch}")
    if result.diagnosis:
        lines.append(f"    diagnosis: {result.diagnosis}")
    if result.resolution is not None and result.verdict is Verdict.UNDECIDED:
        lines.append(f"    resolution {result.resolution:.2g}")
    return lines
