"""Mutants that are claimed to be no faults at all, each with its reason."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.mutant import Mutant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Equivalent:
    """A claim that a mutant is no fault: it computes the same, or differs only where nothing is promised.

    Attributes:
        id: of the mutant.
        change: its edited line, without the space around it, or the sentence about its result; it tells when the source
            has changed, so that the claim must be looked at again.
        reason: why it is no fault.
    """

    id: str
    change: str
    reason: str


def load_equivalents(path: Path) -> dict[str, Equivalent]:
    """The claims in a TOML file of tables `[[equivalent]]` with id, change and reason.

    Raises:
        ArgumentError: it cannot be read, or a claim is incomplete or made twice.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(f"equivalents is {str(path)!r}, which cannot be read: {error}") from error
    found: dict[str, Equivalent] = {}
    for number, entry in enumerate(entries, 1):
        complete = isinstance(entry, dict) and set(entry) == {"id", "change", "reason"}
        texts = {key: str(value).strip() for key, value in entry.items()} if complete else {}
        if not texts.get("id") or not texts.get("reason"):
            raise ArgumentError(
                f"entry {number} of {str(path)!r} is {entry!r}, but id, change and reason are expected, and neither "
                "the first nor the last may be empty"
            )
        if texts["id"] in found:
            raise ArgumentError(f"{str(path)!r} claims {texts['id']!r} twice")
        found[texts["id"]] = Equivalent(**texts)
    return found


def check_equivalents(
    claims: Mapping[str, Equivalent], mutants: Sequence[Mutant], functions: Sequence[Function]
) -> None:
    """Check that each claim is about a mutant that there is.

    Args:
        claims: by id.
        mutants: all of them.
        functions: those mutated now; claims about others are left alone.

    Raises:
        ArgumentError: a claim is about a mutant that there is not, or that is another one now.
    """
    by_id = {mutant.id: mutant for mutant in mutants}
    beginnings = tuple(f"{function.name}/" for function in functions)
    for claim in claims.values():
        if not claim.id.startswith(beginnings):
            continue
        if claim.id not in by_id:
            raise ArgumentError(f"equivalents names {claim.id!r}, but there is no such mutant: remove the entry")
        change = _change_of(by_id[claim.id])
        if change != claim.change:
            raise ArgumentError(
                f"equivalents names {claim.id!r} with the change {claim.change!r}, but it is {change!r} now: "
                "look whether the reason still holds"
            )


def _change_of(mutant: Mutant) -> str:
    """The edited lines without the space around them, or the sentence about the result."""
    if mutant.kind == "result":
        return mutant.diff
    lines = [line[1:].strip() for line in mutant.diff.splitlines()[3:] if line.startswith("+")]
    return " ".join(lines)
