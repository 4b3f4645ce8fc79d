"""The outcome of one verification: the results of all checks, what they amount to, and how they are told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nn_from_scratch.errors import WrongGradientError
from nn_from_scratch.verify.findings import Finding, findings
from nn_from_scratch.verify.results import CheckResult, Verdict, plain_data

Fragile = Literal["fail", "report"]

#: What no check looks at, so that nobody takes a correct verdict for more than it is.
NOT_LOOKED_AT = "torch.compile, autocast, checkpointing, uninitialized memory, and the gradients of sparse tensors"


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of one verification.

    Attributes:
        subject: The subject's name.
        form: The form in which it was recognized.
        results: One entry for each check and tensor, in the order in which they ran.
        environment: Versions, platform, dtype and device.
        level: "quick" or "full".
        notes: What was found out about the subject on the way (conventions, kinks).
        fragile: Whether a fragile result is a failure ("fail") or only reported ("report").
        strict: Whether a limit is a failure too.
    """

    subject: str
    form: str
    results: tuple[CheckResult, ...]
    environment: Mapping[str, str]
    seed: int
    level: str
    seconds: float
    notes: tuple[str, ...] = ()
    fragile: Fragile = "fail"
    strict: bool = False

    @property
    def verdict(self) -> Verdict:
        """Wrong if any result is, else fragile if any is, else undecided if any is or none is correct, else correct.

        With `strict`, what would be correct is a limit if any result is one.
        """
        verdicts = {result.verdict for result in self.results}
        for decisive in (Verdict.WRONG, Verdict.FRAGILE, Verdict.UNDECIDED):
            if decisive in verdicts:
                return decisive
        if Verdict.CORRECT not in verdicts:
            return Verdict.UNDECIDED
        return Verdict.LIMIT if self.strict and Verdict.LIMIT in verdicts else Verdict.CORRECT

    @property
    def failed(self) -> bool:
        """Whether a result is wrong, or fragile or a limit where that counts as a failure."""
        return any(self._fails(result) for result in self.results)

    @property
    def passed(self) -> bool:
        """True only if something was verified, nothing failed, and nothing is undecided."""
        verdicts = {result.verdict for result in self.results}
        verified = bool(verdicts & {Verdict.CORRECT, Verdict.FRAGILE})
        return verified and not self.failed and Verdict.UNDECIDED not in verdicts

    def _fails(self, result: CheckResult) -> bool:
        return (
            result.verdict is Verdict.WRONG
            or (result.verdict is Verdict.FRAGILE and self.fragile == "fail")
            or (result.verdict is Verdict.LIMIT and self.strict)
        )

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, fragile or undecided, each once: a fault that several checks see is one finding."""
        return findings(self.results)

    @property
    def counts(self) -> dict[str, int]:
        """The number of results of each verdict, zeros included."""
        counter = Counter(result.verdict.value for result in self.results)
        return {verdict.value: counter[verdict.value] for verdict in Verdict}

    @property
    def worst_margin(self) -> float | None:
        """The largest |difference| / allowed of any check; None when no check has one."""
        return max((r.margin for r in self.results if r.margin is not None), default=None)

    def raise_if_wrong(self) -> Report:
        """Return the report itself if nothing failed.

        Raises:
            WrongGradientError: If any result is wrong, or fragile or a limit where that counts as a failure; the
                message is the report's text.
        """
        if self.failed:
            raise WrongGradientError(str(self))
        return self

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data that JSON can hold."""
        summary = {
            "verdict": self.verdict.value,
            "passed": self.passed,
            "failed": self.failed,
            "counts": self.counts,
            "worst_margin": self.worst_margin,
            "not_looked_at": NOT_LOOKED_AT,
        }
        results = [result.to_dict() for result in self.results]
        found = [finding.to_dict() for finding in self.findings]
        data = {**vars(self), **summary, "results": results, "findings": found}
        return {key: plain_data(value) for key, value in data.items()}

    def to_json(self, *, indent: int | None = 2) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def __str__(self) -> str:
        return report_text(self)


def report_text(report: Report) -> str:
    """The verdict, then what is wrong, fragile, undecided, a limit and not applicable, then how to reproduce it."""
    counts = report.counts
    summary = ", ".join(
        f"{counts[verdict.value]} {verdict}"
        for verdict in Verdict
        if counts[verdict.value] or verdict is Verdict.CORRECT
    )
    margin = "" if report.worst_margin is None else f"; worst |difference| / allowed {report.worst_margin:.2g}"
    lines = [
        f"{report.subject} ({report.form}): {str(report.verdict).upper()}",
        f"  {summary} in {report.seconds:.2g} s{margin}",
    ]
    for finding in report.findings:
        lines += _told(finding)
    for verdict in (Verdict.LIMIT, Verdict.NOT_APPLICABLE):
        reasons: dict[str, list[str]] = {}
        for result in report.results:
            if result.verdict is verdict:
                reasons.setdefault(result.label, []).append(result.reason or "")
        lines += [f"  {verdict}: {label}: {'; '.join(each)}" for label, each in reasons.items()]
    lines += [f"  note: {note}" for note in report.notes]
    lines.append(f"  not looked at by any check: {NOT_LOOKED_AT}")
    environment = ", ".join(f"{key} {value}" for key, value in report.environment.items())
    lines.append(f"  seed {report.seed}, level {report.level}; {environment}")
    snippet = next((finding.result.snippet for finding in report.findings if finding.result.snippet), None)
    if snippet is not None:
        lines += ["  to reproduce:", *(f"    {line}".rstrip() for line in snippet.splitlines())]
    return "\n".join(lines)


def _told(finding: Finding) -> list[str]:
    result = finding.result
    lines = [f"  {str(result.verdict).upper()}: {finding.label}"]
    lines += [f"    {text}" for text in (result.reason, result.mismatch) if text]
    if result.diagnosis:
        lines.append(f"    diagnosis: {result.diagnosis}")
    if result.resolution is not None and result.verdict is Verdict.UNDECIDED:
        lines.append(f"    resolution {result.resolution:.2g}")
    if finding.also:
        lines.append(f"    also at: {finding.also_at}")
    return lines
