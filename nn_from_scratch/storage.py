"""Files that are either there as a whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
from pathlib import Path
from typing import Any

_PARTIAL = ".partial"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, a crash or a full disk meets the old content or the new, never a part.

    Args:
        path: the file; an existing one is replaced.

    Raises:
        OSError: it cannot be written; the old file, if any, is as it was, and nothing else is left behind.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # not the name of the partial file, which nobody knows
        raise
    _sync_folder(path.parent)


def write_json(path: Path, values: object) -> None:
    """Write JSON values, indented, atomically; a number that is not finite, which JSON does not have, as null.

    Raises:
        OSError: it cannot be written; the old file, if any, is as it was.
    """
    write_atomically(path, (json.dumps(_strict(values), indent=2, allow_nan=False) + "\n").encode())


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file with a JSON object in each line, which may be missing.

    A last line that a kill has cut off is removed from the file, so that the next one has a line of its own.
    """
    content = path.read_bytes() if path.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomically(path, whole)
    return [json.loads(line) for line in whole.splitlines()]


def remove_partial_files(folder: Path) -> None:
    """Remove what a process that was killed while writing has left in the folder."""
    for partial in folder.glob(f".*{_PARTIAL}"):
        with contextlib.suppress(OSError):
            partial.unlink()


def _strict(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    return [_strict(inner) for inner in value] if isinstance(value, list | tuple) else value


def _sync_folder(folder: Path) -> None:
    # The rename itself lasts only once the folder is on the disk; some systems cannot open a folder, and need not.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
