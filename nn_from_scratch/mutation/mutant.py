"""A mutant and what the tests make of it, as data that travels between processes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A faulty variant of one function.

    Attributes:
        id: "module:function/operator/number"; the same as long as the function's source is.
        function: the name of the function, as `Function.name`.
        kind: "source" or "result".
        operator: what was done, in one word or two.
        line: of the file, where the source was edited; 0 for a fault in the result.
        diff: the edit as a unified diff, or a sentence about the result.
        statement: first and last line of the statement that is edited, counted from the function's first line as 0.
        start, old, new: the edit: at this byte of the file, this text, which becomes that.
        place: which of several results is faulty: "" for the only one, "0", "1", ... in a tuple, a key in a dictionary.
    """

    id: str
    function: str
    kind: str
    operator: str
    diff: str
    line: int = 0
    statement: tuple[int, int] = (0, 0)
    start: int = 0
    old: str = ""
    new: str = ""
    place: str = ""


class MutantOutcome(str, Enum):
    """The outcome of one mutant under one group of tests."""

    KILLED = "killed"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    SURVIVED = "survived"
    UNREACHED = "unreached"

    @property
    def killed(self) -> bool:
        """Whether the run of the tests would have failed: by a test, at the time limit, or as its process ended."""
        return self in (MutantOutcome.KILLED, MutantOutcome.TIMEOUT, MutantOutcome.CRASHED)


@dataclass(frozen=True)
class MutantResult:
    """The result of running one group of tests against one mutant.

    Attributes:
        mutant: its id.
        test: the test that failed first.
        message: what it failed with.
        round: how often new tests had come by then; it says nothing about later ones.
    """

    mutant: str
    group: str
    outcome: MutantOutcome
    test: str = ""
    message: str = ""
    seconds: float = 0.0
    round: int = 0
