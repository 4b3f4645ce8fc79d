"""What a verification gives: a verdict for each check and tensor, and a report over all of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal

from nn_from_scratch.errors import ArgumentError, WrongGradientError
from nn_from_scratch.verify.comparison import Mismatch

Fragile = Literal["fail", "report"]


class Verdict(Enum):
    """The outcome of a check.

    `WRONG` is a gradient that is wrong, or a promise of backward that is broken, at the given inputs: their values,
    shapes, dtype and layout, and small neighborhoods of them. `FRAGILE` is right there, and silently wrong elsewhere,
    at an input that was shown to be valid. `LIMIT` is a remark: elsewhere the subject raises, or gives what
    floating-point numbers cannot avoid. `UNDECIDED` never counts as a pass. `NOT_APPLICABLE` says that the check makes
    no sense for this subject, or found no valid input to look at: neither a pass nor a failure. All but `CORRECT`
    and `WRONG` always carry a reason.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    FRAGILE = "fragile"
    UNDECIDED = "undecided"
    LIMIT = "limit"
    NOT_APPLICABLE = "not_applicable"

    def __str__(self) -> str:
        return self.value.replace("_", " ")


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The outcome of one check, for one tensor or for the whole subject.

    Attributes:
        check: The check's name, such as "gradient".
        tensor: The input or parameter that it is about; None for the whole subject.
        reason: What is wrong, fragile or a limit in words, and where; or why it is undecided or does not apply.
        mismatch: The numbers, where numbers disagree.
        diagnosis: The fault by name, where one explains the whole gradient; or that the search for one was stopped.
        margin: |difference| / allowed; above 1 is wrong.
        resolution: The smallest relative error that this check could have seen.
        details: Whatever else is worth keeping, by name; numbers, strings, lists of them.
        snippet: Python source that reproduces the finding in a new file.

    Raises:
        ArgumentError: If a result that is neither correct nor wrong has no reason.
    """

    check: str
    tensor: str | None = None
    verdict: Verdict
    reason: str | None = None
    mismatch: Mismatch | None = None
    diagnosis: str | None = None
    margin: float | None = None
    resolution: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    snippet: str | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.verdict not in (Verdict.CORRECT, Verdict.WRONG) and not self.reason:
            raise ArgumentError(
                f"reason={self.reason!r} of the check {self.check!r} should say why it is {self.verdict}."
            )

    @classmethod
    def correct(cls, check: str, tensor: str | None = None, **rest: Any) -> CheckResult:
        """A correct result; further fields by keyword."""
        return cls(check=check, tensor=tensor, verdict=Verdict.CORRECT, **rest)

    @classmethod
    def wrong(cls, check: str, tensor: str | None = None, **rest: Any) -> CheckResult:
        """A wrong result; further fields by keyword."""
        return cls(check=check, tensor=tensor, verdict=Verdict.WRONG, **rest)

    @classmethod
    def fragile(cls, check: str, reason: str, tensor: str | None = None, **rest: Any) -> CheckResult:
        """Silently wrong elsewhere; the reason names the valid input that shows it. Further fields by keyword."""
        return cls(check=check, tensor=tensor, verdict=Verdict.FRAGILE, reason=reason, **rest)

    @classmethod
    def limit(cls, check: str, reason: str, tensor: str | None = None, **rest: Any) -> CheckResult:
        """A remark on what the subject does not take, with the reason; further fields by keyword."""
        return cls(check=check, tensor=tensor, verdict=Verdict.LIMIT, reason=reason, **rest)

    @classmethod
    def undecided(cls, check: str, reason: str, tensor: str | None = None, **rest: Any) -> CheckResult:
        """An undecided result, with its reason; further fields by keyword."""
        return cls(check=check, tensor=tensor, verdict=Verdict.UNDECIDED, reason=reason, **rest)

    @classmethod
    def not_applicable(cls, check: str, reason: str, tensor: str | None = None, **rest: Any) -> CheckResult:
        """A check that makes no sense for this subject, with the reason; further fields by keyword."""
        return cls(check=check, tensor=tensor, verdict=Verdict.NOT_APPLICABLE, reason=reason, **rest)

    @property
    def label(self) -> str:
        """The check's name with the tensor's: "gradient of weight"."""
        return self.check if self.tensor is None else f"{self.check} of {self.tensor}"

    def with_fields(self, **changes: Any) -> CheckResult:
        """The same result with some fields replaced."""
        return replace(self, **changes)

    def __str__(self) -> str:
        parts = [f"{self.label}: {self.verdict}"]
        if self.reason:
            parts.append(self.reason)
        if self.mismatch is not None:
            parts.append(str(self.mismatch))
        if self.diagnosis:
            parts.append(f"diagnosis: {self.diagnosis}")
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data that JSON can hold (infinities and NaN become strings)."""
        data = {**vars(self), "verdict": self.verdict.value}
        if self.mismatch is not None:
            data["mismatch"] = {**vars(self.mismatch), "share": self.mismatch.share}
        return {key: _plain(value) for key, value in data.items()}


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
        }
        results = [result.to_dict() for result in self.results]
        return {key: _plain(value) for key, value in {**vars(self), **summary, "results": results}.items()}

    def to_json(self, *, indent: int | None = 2) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def __str__(self) -> str:
        return report_text(self)


def _plain(value: Any) -> Any:
    """Replace what JSON cannot hold: non-finite numbers by their names, everything unknown by its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value)


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
    by_verdict = {verdict: [r for r in report.results if r.verdict is verdict] for verdict in Verdict}
    for verdict in (Verdict.WRONG, Verdict.FRAGILE, Verdict.UNDECIDED):
        lines += _grouped(by_verdict[verdict])
    for verdict in (Verdict.LIMIT, Verdict.NOT_APPLICABLE):
        lines += [f"  {verdict}: {result.label}: {result.reason}" for result in by_verdict[verdict]]
    lines += [f"  note: {note}" for note in report.notes]
    environment = ", ".join(f"{key} {value}" for key, value in report.environment.items())
    lines.append(f"  seed {report.seed}, level {report.level}; {environment}")
    shown = (*by_verdict[Verdict.WRONG], *by_verdict[Verdict.FRAGILE])
    snippet = next((result.snippet for result in shown if result.snippet), None)
    if snippet is not None:
        lines += ["  to reproduce:", *(f"    {line}".rstrip() for line in snippet.splitlines())]
    return "\n".join(lines)


def _grouped(results: list[CheckResult]) -> list[str]:
    """Results of one verdict; those that say the same, or concern a gradient already shown as wrong, in one line."""
    lines: list[str] = []
    wrong_gradients = {r.tensor for r in results if r.check == "gradient" and r.verdict is Verdict.WRONG and r.mismatch}
    shown: set[int] = set()
    for result in results:
        if id(result) in shown:
            continue
        same, following = [result], []
        if result.check == "gradient" and result.tensor in wrong_gradients:
            following = [r for r in results if r.tensor == result.tensor and r is not result and r.mismatch is not None]
        elif result.mismatch is None:  # results with numbers of their own are told one by one
            said = (result.reason, result.diagnosis)
            same = [r for r in results if r.mismatch is None and (r.reason, r.diagnosis) == said]
        shown.update(id(r) for r in (*same, *following))
        lines.append(f"  {str(result.verdict).upper()}: {', '.join(dict.fromkeys(r.label for r in same))}")
        lines += [f"    {text}" for text in (result.reason, result.mismatch) if text]
        if result.diagnosis:
            lines.append(f"    diagnosis: {result.diagnosis}")
        if result.resolution is not None and result.verdict is Verdict.UNDECIDED:
            lines.append(f"    resolution {result.resolution:.2g}")
        if following:
            lines.append(f"    also wrong there: {', '.join(dict.fromkeys(r.label for r in following))}")
    return lines
