"""What a check gives: a verdict for each tensor, with its reason and its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.comparison import Mismatch


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
        return {key: plain_data(value) for key, value in data.items()}


def plain_data(value: Any) -> Any:
    """Replace what JSON cannot hold: non-finite numbers by their names, everything unknown by its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain_data(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(entry) for entry in value]
    return str(value)
