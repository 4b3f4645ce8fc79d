"""Documents become files."""

from __future__ import annotations

import os
from pathlib import Path

from nn_from_scratch.report.document import Document
from nn_from_scratch.report.html import to_html
from nn_from_scratch.report.markdown import to_markdown
from nn_from_scratch.storage import write_atomically

__all__ = ["publish"]


def publish(document: Document, *, markdown: Path | None = None, html: Path | None = None) -> None:
    """Write a document; its Markdown is also appended to the file that `$GITHUB_STEP_SUMMARY` names, if that is set.

    Args:
        document: what is written.
        markdown, html: the files; an existing one is replaced, as a whole or not at all.

    Raises:
        OSError: a file cannot be written.
    """
    text = to_markdown(document)
    if markdown is not None:
        write_atomically(markdown, text.encode())
    if html is not None:
        write_atomically(html, to_html(document).encode())
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
