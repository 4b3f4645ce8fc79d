"""Results and documents as files: one schema for verification, benchmarks and reproduction (see docs/results.md)."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nn_from_scratch import __version__
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report.document import Document
from nn_from_scratch.report.rendering import to_html, to_markdown
from nn_from_scratch.storage import MARKS, write_atomically, write_json

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


def store(path: Path | None, kind: str, results: Mapping[str, Any], *, commands: Sequence[str]) -> None:
    """Write a results file, if a path is given; its arguments are otherwise those of `envelope`.

    Raises:
        OSError: it cannot be written.
    """
    if path is not None:
        write_json(path, envelope(kind, results, commands=commands))


def read_results(path: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        ArgumentError: it is not a results file, or of a newer version than this package knows.
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


def publish(document: Document, *, markdown: Path | None = None, html: Path | None = None) -> None:
    """Write a document; its Markdown is also appended to the file that `$GITHUB_STEP_SUMMARY` names, if that is set.

    Args:
        markdown, html: the files; an existing one is replaced, as a whole or not at all.

    Raises:
        OSError: a file cannot be written.
    """
    text = to_markdown(document)
    if markdown is not None:
        write_atomically(markdown, MARKS["markdown"] + b"\n\n" + text.encode())
    if html is not None:
        write_atomically(html, to_html(document).encode())
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")


def environment(*, torch: bool = False) -> dict[str, str]:
    """Describe this machine and what runs on it, name to value.

    Args:
        torch: whether torch is imported for it; without, what only torch knows (threads, GPU, precision) is left out
            unless torch is there already.
    """
    revision = _revision()  # this package's: what is verified or measured may have another
    found = {
        "nn_from_scratch": __version__ if revision is None else f"{__version__} (revision {revision})",
        "python": platform.python_version(),
        "torch": _version("torch"),
        "numpy": _version("numpy"),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1),
    }
    return found | (_of_torch() if torch or "torch" in sys.modules else {})


def _of_torch() -> dict[str, str]:
    import torch

    found = {"threads": str(torch.get_num_threads())}
    if not torch.cuda.is_available():
        return found | {"GPU": "none"}
    return found | {
        "GPU": torch.cuda.get_device_name(),
        "CUDA": str(torch.version.cuda),
        "precision of products": torch.backends.cuda.matmul.fp32_precision,
        "precision of convolutions": getattr(torch.backends.cudnn, "conv").fp32_precision,  # noqa: B009  # torch does not declare it
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _revision() -> str | None:
    """The revision of the checkout that this package is in, if it is in one of its own."""
    root = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
