"""Mutants that are claimed to be no faults at all, each with its reason."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.mutant import Mutant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Equivalent", "check_equivalents", "load_equivalents"]


@dataclass(frozen=True)
class Equivalent:
    """A mutant that computes the same, or what nobody promised otherwise.

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
        claim = _claim(entry)
        if claim is None:
            raise ArgumentError(
                f"entry {number} of {str(path)!r} is {entry!r}, but id, change and reason are expected, none of them "
                "empty"
            )
        if claim.id in found:
            raise ArgumentError(f"{str(path)!r} claims {claim.id!r} twice")
        found[claim.id] = claim
    return found


def check_equivalents(
    claims: Mapping[str, Equivalent], mutants: Sequence[Mutant], functions: Sequence[Function]
) -> None:
    """See that each claim is about a mutant of today.

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
        change = change_of(by_id[claim.id])
        if change != claim.change:
            raise ArgumentError(
                f"equivalents names {claim.id!r} with the change {claim.change!r}, but it is {change!r} now: "
                "look whether the reason still holds"
            )


def change_of(mutant: Mutant) -> str:
    """The edited lines without the space around them, or the sentence about the result."""
    if mutant.kind == "result":
        return mutant.diff
    lines = [line[1:].strip() for line in mutant.diff.splitlines()[3:] if line.startswith("+")]
    return " ".join(lines)


def _claim(entry: Any) -> Equivalent | None:
    if not isinstance(entry, dict) or set(entry) != {"id", "change", "reason"}:
        return None
    values = [str(entry[key]).strip() for key in ("id", "change", "reason")]
    return Equivalent(*values) if values[0] and values[2] else None
