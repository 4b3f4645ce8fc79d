"""A document as one HTML page or as Markdown, by the templates `page.html` and `page.md` beside this file."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader
from markupsafe import Markup

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report.document import (
    CellValue,
    Code,
    Commands,
    Details,
    Document,
    Figure,
    Section,
    Table,
    format_cell,
    sort_value,
)
from nn_from_scratch.report.figures import color_variables

#: Cells that are a verdict, and how they look; the word says the same without the color.
_STATUS = {
    **dict.fromkeys(("correct", "holds", "OK", "passed"), "passed"),
    **dict.fromkeys(("wrong", "does not hold", "REGRESSED", "REMOVED", "INVALID", "failed", "error"), "failed"),
    **dict.fromkeys(("undecided", "fragile", "limit", "INCONCLUSIVE"), "undecided"),
}
_SIGNS = {"passed": "✅ passed", "failed": "❌ failed", "undecided": "⚠️ undecided", "information": "ℹ️"}
#: A cell of more characters is a sentence.
_SENTENCE = 40
_LEAST_LIMIT = 1_000
_LEFT_OUT = "\n*Some parts are left out here, for length; the JSON and the HTML have all of them.*\n"


def to_html(document: Document) -> str:
    """Write a document as a whole HTML page."""
    return (
        _environment()
        .get_template("page.html")
        .render(
            document=document,
            sections=(*document.sections, *_closing(document)),
            style=color_variables() + _resource("page.css"),
            script=_resource("page.js"),
        )
    )


def to_markdown(document: Document, *, limit: int = 900_000) -> str:
    """Write a document as Markdown, in the dialect of code forges' pages and job summaries.

    Args:
        document: what is written; caption and text stand for a figure.
        limit: the size in bytes of UTF-8; blocks that do not fit are left out from the end, and that is said.

    Raises:
        ArgumentError: the limit is below 1000.
    """
    if limit < _LEAST_LIMIT:
        raise ArgumentError(f"limit is {limit}, but at least {_LEAST_LIMIT} bytes are expected")
    parts: Any = _environment().get_template("page.md").module
    head = _cut(parts.render_head(document), limit // 4)
    tail = "".join(
        parts.render_title(section) + "".join(map(parts.render_block, section.blocks)) for section in _closing(document)
    )
    if _size(tail) > limit // 4:
        tail = ""
    left = limit - _size(head) - _size(tail) - _size(_LEFT_OUT)
    kept: list[str] = []
    complete = bool(tail)
    for section in document.sections:
        for block in (None, *section.blocks):
            text = parts.render_title(section) if block is None else parts.render_block(block)
            if _size(text) > left:
                complete = False
                text = _first_rows(text, block, left) if isinstance(block, Table) else ""
            kept.append(text)
            left -= _size(text)
    return head + "".join(kept) + ("" if complete else _LEFT_OUT) + tail


def _closing(document: Document) -> tuple[Section, ...]:
    rows = tuple(document.environment.items())
    return (
        Section("Environment", (Table("Where this was made.", ("what", "value"), rows),)),
        Section("Reproduce", (Commands(document.commands),)),
    )


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FunctionLoader(_resource),
        autoescape=lambda name: name == "page.html",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    tests: dict[str, Callable[[object], bool]] = {
        "code": lambda value: isinstance(value, Code),
        "commands": lambda block: isinstance(block, Commands),
        "details": lambda block: isinstance(block, Details),
        "figure": lambda block: isinstance(block, Figure),
        "table": lambda block: isinstance(block, Table),
    }
    found.tests.update(tests)
    found.filters |= {
        "cell": _markdown_cell,
        "css_classes": _css_classes,
        "embedded": _embedded,
        "fenced": _fenced,
        "format_cell": format_cell,
        "has_prose": _has_prose,
        "line": _line,
        "numeric_columns": _numeric_columns,
        "sign": _SIGNS.__getitem__,
        "sort_key": lambda value: "" if value is None else sort_value(value),
        "wholly_numeric_columns": _wholly_numeric_columns,
    }
    return found


def _resource(name: str) -> str:
    return (files("nn_from_scratch.report") / name).read_text(encoding="utf-8")


def _numeric_columns(table: Table) -> list[bool]:
    return [any(sort_value(cell) is not None for cell in column) for column in table.columns]


def _wholly_numeric_columns(table: Table) -> list[bool]:
    filled = [[cell for cell in column if cell is not None] for column in table.columns]
    return [bool(cells) and all(sort_value(cell) is not None for cell in cells) for cells in filled]


def _has_prose(table: Table) -> bool:
    return len(table.header) > 2 and any(_is_long(cell) for row in table.rows for cell in row)


def _is_long(value: CellValue) -> bool:
    return len(format_cell(value)) > _SENTENCE


def _css_classes(value: CellValue, number: bool) -> str:
    classes = ["number"] if number else []
    if value is None:
        classes.append("none")
    elif _is_long(value) and not isinstance(value, Code):
        classes.append("long")
    elif isinstance(value, str) and value in _STATUS:
        classes.append(_STATUS[value])
    return " ".join(classes)


def _embedded(svg: str, prefix: str) -> Markup:
    """An svg element whose identifiers are no other figure's, without the declarations of a separate file."""
    body = svg[svg.index("<svg") :] if "<svg" in svg else svg
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    return Markup(re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{prefix}", body))


def _markdown_cell(value: CellValue) -> str:
    code = isinstance(value, Code) and "`" not in value
    text = f"`{' '.join(str(value).split())}`" if code else _line(format_cell(value))
    return text.replace("|", "\\|")


def _line(text: str) -> str:
    """Text that is shown as it is: no line breaks, no HTML, no emphasis by accident."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([*`\\\[\]]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", plain)


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _first_rows(text: str, table: Table, limit: int) -> str:
    """A table cut to this many bytes: the first lines of a long one are those that matter most."""
    before = 5  # lines above the first row: an empty one, the caption, an empty one, and the two of the header
    kept, left = list[str](), limit - 100  # for the note
    for line in text.split("\n"):
        left -= _size(line) + 1
        if left < 0:
            break
        kept.append(line)
    if len(kept) <= before:
        return ""
    return "\n".join([*kept, "", f"*The first {len(kept) - before} of {len(table.rows)} lines.*", ""])


def _size(text: str) -> int:
    return len(text.encode())


def _cut(text: str, limit: int) -> str:
    content = text.encode()
    return text if len(content) <= limit else content[: limit - 4].decode(errors="ignore") + "…\n"
