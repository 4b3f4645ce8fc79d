"""Where in a file a node of its syntax tree stands."""

from __future__ import annotations

import ast

from nn_from_scratch.mutation.functions import Definition

__all__ = ["first_line", "line_starts", "span", "statement_of"]


def line_starts(content: bytes) -> list[int]:
    """For each line, where it begins, in bytes."""
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def span(node: ast.AST, starts: list[int]) -> tuple[int, int]:
    """First byte, and first after it. What ast counts are bytes of the line in UTF-8."""
    begin = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]  # only nodes that have a place
    end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
    return begin, end


def statement_of(node: Definition, line: int, origin: int) -> tuple[int, int]:
    """First and last line, counted from `origin`, of the innermost statement in which a line lies.

    Of a compound statement those of its head. What lies in a function inside belongs to the statement that makes it:
    the body may run anywhere.
    """
    first, last = node.lineno, node.body[0].lineno - 1
    body: list[ast.stmt | ast.ExceptHandler] = [*node.body]
    while body:
        inner = next((each for each in body if first_line(each) <= line <= (each.end_lineno or 0)), None)
        if inner is None:
            break
        parts = [getattr(inner, part, []) for part in ("body", "orelse", "handlers", "finalbody")]
        body = [] if isinstance(inner, Definition | ast.ClassDef) else [each for part in parts for each in part]
        first, last = first_line(inner), (body[0].lineno - 1 if body else inner.end_lineno or 0)
    return first - origin, max(first, last) - origin


def first_line(node: ast.stmt | ast.ExceptHandler) -> int:
    """The line in which a statement begins, its decorators included."""
    lines: list[int] = [node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]
    return min(lines)
