"""A document as Markdown, in the dialect of code forges' pages and job summaries."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report.document import (
    Block,
    CellValue,
    Code,
    Commands,
    Details,
    Document,
    Figure,
    Section,
    Table,
    Text,
    format_cell,
    sort_value,
)

__all__ = ["to_markdown"]

_SIGNS = {"passed": "✅ passed", "failed": "❌ failed", "undecided": "⚠️ undecided", "information": "ℹ️"}
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LEAST = 1_000


def to_markdown(document: Document, *, limit: int = 900_000) -> str:
    """Write a document as Markdown.

    Args:
        document: what is written; of a figure, caption and text stand for it.
        limit: so many bytes of UTF-8 at most; blocks that do not fit are left out from the end, and that is said.

    Raises:
        ArgumentError: the limit is below 1000.
    """
    if limit < _LEAST:
        raise ArgumentError(f"limit is {limit}, but at least {_LEAST} bytes are expected")
    head = f"# {_line(document.title)}\n\n**{_SIGNS[document.verdict.status]}**: {_line(document.verdict.sentence)}\n"
    head = _cut(head, limit // 4)
    tail = "".join(_section(section) for section in _closing(document))
    if _size(tail) > limit // 4:
        tail = ""
    note = "\n*Some parts are left out here, for length; the JSON and the HTML have all of them.*\n"
    room = limit - _size(head) - _size(tail) - _size(note)
    kept: list[str] = []
    complete = True
    for section in document.sections:
        for block in (None, *section.blocks):
            text = f"\n## {_line(section.title)}\n" if block is None else f"\n{_block(block)}\n"
            if _size(text) > room:
                complete = False
                # The first lines of a long table are those that matter most.
                text = f"\n{_table(block, limit=room)}\n" if isinstance(block, Table) else ""
            if not text or _size(text) > room:
                continue
            kept.append(text)
            room -= _size(text)
    return head + "".join(kept) + ("" if complete and tail else note) + tail


def _closing(document: Document) -> tuple[Section, ...]:
    rows = tuple(document.environment.items())
    return (
        Section("Environment", (Table("Where this was made.", ("what", "value"), rows),)),
        Section("Reproduce", (Commands(document.commands),)),
    )


def _section(section: Section) -> str:
    return f"\n## {_line(section.title)}\n" + "".join(f"\n{_block(block)}\n" for block in section.blocks)


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        return f"*Figure: {_line(block.caption)}*\n\n{_line(block.alt)}"
    if isinstance(block, Commands):
        return _fenced("\n".join(block.lines), "sh")
    if isinstance(block, Details):
        return f"<details>\n<summary>{_line(block.summary)}</summary>\n\n{_fenced(block.text, 'text')}\n\n</details>"
    assert isinstance(block, Text)
    return "\n\n".join(_line(part) for part in re.split(r"\n\s*\n", block.text.strip()))


def _table(table: Table, *, limit: int | None = None) -> str:
    numeric = [
        any(row[column] is not None for row in table.rows)
        and all(row[column] is None or sort_value(row[column]) is not None for row in table.rows)
        for column in range(len(table.header))
    ]
    lines = [
        _row(table.header),
        "|" + "|".join(" ---: " if number else " --- " for number in numeric) + "|",
    ]
    size = _size(table.caption) + sum(map(_size, lines)) + 200
    for row in table.rows:
        lines.append(_row(row))
        size += _size(lines[-1]) + 1
        if limit is not None and size > limit:
            lines[-1:] = ["", f"*The first {len(lines) - 3} of {len(table.rows)} lines.*"]
            break
    return f"{_line(table.caption)}\n\n" + "\n".join(lines)


def _row(cells: Sequence[CellValue]) -> str:
    return "| " + " | ".join(_cell(cell).replace("|", "\\|") for cell in cells) + " |"


def _cell(value: CellValue) -> str:
    if isinstance(value, Code) and "`" not in value:
        return f"`{' '.join(value.split())}`"
    return _line(format_cell(value))


def _line(text: str) -> str:
    """Text that is shown as it is: no line breaks, no HTML, no emphasis by accident."""
    plain = " ".join(text.split())
    plain = re.sub(r"[&<>]", lambda match: _ENTITIES[match[0]], plain)
    return re.sub(r"([*`\\\[\]]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", plain)


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _size(text: str) -> int:
    return len(text.encode())


def _cut(text: str, limit: int) -> str:
    content = text.encode()
    return text if len(content) <= limit else content[: limit - 4].decode(errors="ignore") + "…\n"
