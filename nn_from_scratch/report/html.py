"""A document as one HTML file: verdict first, tables that sort, light and dark, and nothing from outside."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from importlib.resources import files

from nn_from_scratch.report.colours import color_variables
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

__all__ = ["to_html"]

#: A page may use what stands in it, and nothing else, whatever somebody's names would make of it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

#: Cells that are a verdict, and how they look; the word says the same without the colour.
_STATUS = {
    **dict.fromkeys(("correct", "holds", "OK", "passed"), "passed"),
    **dict.fromkeys(("wrong", "does not hold", "REGRESSED", "REMOVED", "INVALID", "failed", "error"), "failed"),
    **dict.fromkeys(("undecided", "INCONCLUSIVE"), "undecided"),
}
#: So many characters in a cell are a sentence.
_SENTENCE = 40
#: A table of more rows scrolls by itself, so that what comes after it is found.
_LONG = 15


def to_html(document: Document) -> str:
    """Write a document as a whole HTML page."""
    sections = (*document.sections, *_closing(document))
    links = "".join(
        f'<li><a href="#part-{number}">{escape(section.title)}</a></li>' for number, section in enumerate(sections)
    )
    verdict = document.verdict
    label = {"information": "Result"}.get(verdict.status, verdict.status)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Without an icon of its own a page asks its server for one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(document.title)}</title>\n<style>\n{color_variables()}{_resource('page.css')}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(document.title)}</h1>\n"
        f'<p class="verdict {verdict.status}"><strong>{label}</strong>: {escape(verdict.sentence)}</p>\n'
        f'<nav aria-label="Parts"><ul>{links}</ul></nav>\n</header>\n<main>\n'
        + "".join(_section(number, section) for number, section in enumerate(sections))
        + f"</main>\n<script>\n{_resource('page.js')}</script>\n</body>\n</html>\n"
    )


def _closing(document: Document) -> tuple[Section, ...]:
    rows = tuple(document.environment.items())
    return (
        Section("Environment", (Table("Where this was made.", ("what", "value"), rows),)),
        Section("Reproduce", (Commands(document.commands),)),
    )


def _section(number: int, section: Section) -> str:
    blocks = "".join(_block(f"f{number}-{place}-", block) for place, block in enumerate(section.blocks))
    return f'<section id="part-{number}">\n<h2>{escape(section.title)}</h2>\n{blocks}</section>\n'


def _block(prefix: str, block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        # The numbers are in the caption and in tables; to a screen reader the drawing is one image.
        names = ("for-wide", "for-narrow") if block.narrow else ("",)
        drawings = "".join(
            f'<div class="{name}" role="img" aria-label="{escape(block.alt)}">'
            f"{_embedded(svg, f'{prefix}{place}-')}</div>"
            for place, (name, svg) in enumerate(zip(names, (block.svg, block.narrow), strict=False))
        )
        return f"<figure>\n{drawings}\n<figcaption>{escape(block.caption)}</figcaption>\n</figure>\n"
    if isinstance(block, Commands):
        return f'<pre class="commands" tabindex="0">{escape(chr(10).join(block.lines))}</pre>\n'
    if isinstance(block, Details):
        text = f'<pre tabindex="0">{escape(block.text)}</pre>'
        return f"<details><summary>{escape(block.summary)}</summary>{text}</details>\n"
    assert isinstance(block, Text)
    return "".join(f"<p>{escape(part.strip())}</p>\n" for part in re.split(r"\n\s*\n", block.text.strip()))


def _table(table: Table) -> str:
    numeric = [any(sort_value(row[column]) is not None for row in table.rows) for column in range(len(table.header))]
    # In a narrow window, rows with sentences in them become cards: beside each other they would be a few letters wide.
    prose = len(table.header) > 2 and any(_is_long(cell) for row in table.rows for cell in row)
    heads = "".join(
        f'<th scope="col"{_css("number" if number else "")}><button type="button">{escape(name)}</button></th>'
        for name, number in zip(table.header, numeric, strict=True)
    )
    names = [f' data-name="{escape(name)}"' if prose else "" for name in table.header]
    rows = "".join(
        "<tr>" + "".join(_cell(*each) for each in zip(row, names, numeric, strict=True)) + "</tr>\n"
        for row in table.rows
    )
    # The caption stands outside of what scrolls, which must have a name and be reachable by the keyboard.
    caption = escape(table.caption)
    return (
        f'<p class="caption">{caption}</p>\n'
        f'<div class="wide{" tall" if len(table.rows) > _LONG else ""}" role="region" tabindex="0" '
        f'aria-label="{caption}">'
        f'<table class="sortable{" prose" if prose else ""}" aria-label="{caption}">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )


def _cell(value: CellValue, name: str, number: bool) -> str:
    text = escape(format_cell(value))
    classes = ["number"] if number else []
    if value is None:
        classes.append("none")
    key = "" if value is None else sort_value(value)
    data = "" if key is None else f' data-value="{key}"'
    if isinstance(value, Code):
        text = f"<code>{text}</code>"
    elif _is_long(value):
        classes.append("long")
    elif isinstance(value, str) and value in _STATUS:
        classes.append(_STATUS[value])
    return f"<td{_css(*classes)}{name}{data}>{text}</td>"


def _is_long(value: CellValue) -> bool:
    return len(format_cell(value)) > _SENTENCE


def _css(*classes: str) -> str:
    named = " ".join(filter(None, classes))
    return f' class="{named}"' if named else ""


def _embedded(svg: str, prefix: str) -> str:
    """An svg element whose identifiers are no other figure's, without the declarations of a file of its own."""
    body = svg[svg.index("<svg") :] if "<svg" in svg else svg
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    return re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{prefix}", body)


@cache
def _resource(name: str) -> str:
    return (files("nn_from_scratch.report") / name).read_text(encoding="utf-8")
