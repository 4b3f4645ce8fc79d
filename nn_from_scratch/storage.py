"""Files that are there as a whole or not at all, and that replace nothing which this project did not write."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nn_from_scratch.errors import ArgumentError

_PARTIAL = ".partial"

#: The program that a picture is said to be written by, where its format has a field for that.
PICTURE_SOFTWARE = "nn-from-scratch denoise"
#: What a file that this project wrote for people or programs holds in its first or last bytes, by its kind.
MARKS = {
    "json": b'"written_by": "nn-from-scratch"',
    "results": b'"schema": "nn_from_scratch/results"',
    "html": b'<meta name="generator" content="nn-from-scratch">',
    "markdown": b"<!-- written by nn-from-scratch -->",
    "PNG": b"Software\x00nn-from-scratch",
    "picture": PICTURE_SOFTWARE.encode(),
}
_ENDS = 4096  # bytes at the beginning and at the end of a file within which a mark stands
#: A file in each folder that this project keeps results in and may empty.
FOLDER_MARK = ".nn-from-scratch"


def resolved(path: Path) -> Path:
    """The path from the root on, without links.

    Raises:
        OSError: its links lead in a circle.
    """
    try:
        return path.resolve()
    except RuntimeError:  # what Python raises for it before 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, a crash or a full disk meets the old content or the new, never a part.

    A device, a pipe or a terminal is written to; a link leads to what is written.

    Args:
        path: the file; an existing one is replaced.

    Raises:
        OSError: it cannot be written; the old file, if any, is as it was, and nothing else is left behind.
    """
    if _is_stream(path):
        _write_to_stream(path, content)
        return
    path = resolved(path)
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
    write_atomically(path, json_text(values).encode())


def json_text(values: object) -> str:
    """JSON values, indented; a number that is not finite, which JSON does not have, as null."""
    return json.dumps(_strict(values), indent=2, allow_nan=False) + "\n"


def write_results(path: Path, values: Mapping[str, object]) -> None:
    """Write JSON values for other programs, atomically, with the mark that tells them from a file of the user's.

    Raises:
        OSError: it cannot be written; the old file, if any, is as it was.
    """
    write_json(path, {"written_by": "nn-from-scratch", **values})


def is_replaceable(path: Path) -> bool:
    """Whether a file may be written there: nothing is lost, since there is none, or an empty one, or one of ours.

    A device or a pipe is not replaced but written to.

    Raises:
        OSError: what is there cannot be read.
    """
    if not path.exists() or _is_stream(path):
        return True
    with path.open("rb") as file:
        ends = file.read(_ENDS)
        file.seek(max(0, path.stat().st_size - _ENDS))
        ends += file.read()
    return not ends or any(mark in ends for mark in MARKS.values())


def prepare_folder(folder: Path, *, ours: tuple[str, ...]) -> None:
    """Make a folder for results, or empty one that this project made before.

    Args:
        folder: new, empty, or one with the mark.
        ours: patterns of the names that are removed from one with the mark; whatever else lies there is left.

    Raises:
        ArgumentError: it is not a folder, or holds something else than what this project put there.
        OSError: it cannot be made or emptied.
    """
    expect_own_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FOLDER_MARK).write_text("Files here are made by nn-from-scratch, which may replace them.\n", "utf-8")
    for path in [path for pattern in ours for path in folder.glob(pattern)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def expect_own_folder(folder: Path) -> None:
    """Refuse a folder whose content somebody else may miss.

    Raises:
        ArgumentError: it is not a folder, or is neither empty nor one that this project made.
    """
    there = folder.exists() or folder.is_symlink()
    if there and not (folder.is_dir() and ((folder / FOLDER_MARK).is_file() or not any(folder.iterdir()))):
        raise ArgumentError(f"folder is {str(folder)!r}, which holds something else; name a new or an empty one")


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


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Context manager in which no other process of this machine uses the folder, if it asks in the same way.

    Raises:
        ArgumentError: another process uses it.
    """
    from filelock import FileLock, Timeout

    place = hashlib.sha256(str(resolved(folder)).encode()).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"nn_from_scratch-folder-{place}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ArgumentError(f"folder {str(folder)!r} is in use by another process; wait, or name another") from None
    try:
        yield
    finally:
        lock.release()


def is_regular_or_new(path: Path) -> bool:
    """Whether the path names an ordinary file, or one that will be: not a device, a pipe or an open output."""
    return not _is_stream(path)


def _is_stream(path: Path) -> bool:
    """Whether the path names a device, a pipe or an open file of this process, by whatever name."""
    try:
        found = path.stat()
    except OSError:
        return False
    return not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)) or _standard_stream(found) is not None


def _standard_stream(found: os.stat_result) -> Any:
    """The standard output or error, where that is what was found: a shell may have led it into a file."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or not a file at all
            if os.path.samestat(found, os.fstat(stream.fileno())):
                return stream
    return None


def _write_to_stream(path: Path, content: bytes) -> None:
    stream = _standard_stream(path.stat())
    if stream is not None:  # through the same buffer and offset as everything else that is printed
        stream.flush()
        stream.buffer.write(content)
        stream.flush()
        return
    try:
        with path.open("wb", buffering=0) as file:
            file.write(content)
    except OSError as error:
        error.filename = str(path)
        raise


def _sync_folder(folder: Path) -> None:
    # The rename itself lasts only once the folder is on the disk; some systems cannot open a folder, and need not.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
