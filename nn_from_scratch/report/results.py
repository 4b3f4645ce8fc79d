"""The results file: one schema for verification, benchmarks and reproduction (see docs/results.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report.environment import environment

__all__ = ["KINDS", "SCHEMA", "VERSION", "envelope", "read_results"]

SCHEMA = "nn_from_scratch/results"
VERSION = 1
KINDS = ("verification", "benchmark", "reproduction")

_FIELDS = ("schema", "version", "kind", "created", "environment", "commands", "results")


def envelope(kind: str, results: Mapping[str, Any], *, commands: Sequence[str] = ()) -> dict[str, Any]:
    """Put results into what every results file has around them.

    Args:
        kind: one of `KINDS`.
        results: JSON values; what they are depends on the kind.
        commands: shell lines that make them again.

    Raises:
        ArgumentError: there is no such kind.
    """
    if kind not in KINDS:
        raise ArgumentError(f"kind is {kind!r}, but one of {', '.join(KINDS)} is expected")
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "kind": kind,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "environment": environment(),
        "commands": list(commands),
        "results": dict(results),
    }


def read_results(path: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        ArgumentError: it is no results file, or one of a newer version than this package knows.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        raise ArgumentError(
            f"results file {str(path)!r} holds no JSON; one of the schema {SCHEMA} is expected"
        ) from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ArgumentError(f"results file {str(path)!r} is not of the schema {SCHEMA}")
    number = content.get("version")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= VERSION:
        raise ArgumentError(
            f"results file {str(path)!r} has version {number!r}, but this package reads versions up to {VERSION}"
        )
    missing = [name for name in _FIELDS if name not in content]
    if missing or content["kind"] not in KINDS or not isinstance(content["results"], dict):
        what = f"lacks {', '.join(missing)}" if missing else f"has kind {content['kind']!r} or results of another form"
        raise ArgumentError(f"results file {str(path)!r} {what}, but a whole results file is expected")
    return content
