"""What came of a mutant."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Outcome", "Result"]


class Outcome(str, Enum):
    """What came of a mutant."""

    KILLED = "killed"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    SURVIVED = "survived"
    UNREACHED = "unreached"

    @property
    def noticed(self) -> bool:
        """Whether the tests would have told."""
        return self in (Outcome.KILLED, Outcome.TIMEOUT, Outcome.CRASHED)


@dataclass(frozen=True)
class Result:
    """What a group of tests made of a mutant.

    Attributes:
        mutant: its id.
        group: name of the group.
        outcome: what happened.
        test: the test that failed first.
        message: what it said.
        seconds: that it took.
        round: how often new tests had come by then; later ones it knows nothing of.
    """

    mutant: str
    group: str
    outcome: Outcome
    test: str = ""
    message: str = ""
    seconds: float = 0.0
    round: int = 0
