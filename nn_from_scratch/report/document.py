"""The document model: the content of a report, whatever it looks like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from nn_from_scratch.errors import ArgumentError

#: What a verdict may be.
STATUSES = ("passed", "failed", "undecided", "information")


@dataclass(frozen=True)
class Cell:
    """A table's cell whose text and place in the order differ.

    Attributes:
        text: what is shown.
        value: what the column is sorted by.
    """

    text: str
    value: float


class Code(str):
    """A table's cell that is a line for a shell."""

    __slots__ = ()


CellValue: TypeAlias = str | int | float | Cell | None


@dataclass(frozen=True)
class Table:
    """A table; numbers stay numbers, so that columns can be sorted.

    Attributes:
        caption: what it shows, with units.
        header: a name for each column.
        rows: as many cells each as there are columns; None is an empty cell.

    Raises:
        ArgumentError: a row has another number of cells.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[CellValue, ...], ...]

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.header):
                raise ArgumentError(
                    f"rows[{number}] of the table {self.caption!r} has {len(row)} cells, but its header has "
                    f"{len(self.header)}"
                )

    @property
    def columns(self) -> list[list[CellValue]]:
        """The cells of each column."""
        return [[row[place] for row in self.rows] for place in range(len(self.header))]


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
        caption: what to see in it.
        svg: the drawing itself, an svg element.
        alt: what it shows, for those who do not see it.
        narrow: the same for a narrow window, with text that is legible there; where it is empty, svg is taken.
    """

    caption: str
    svg: str = field(repr=False)
    alt: str
    narrow: str = field(default="", repr=False, kw_only=True)


@dataclass(frozen=True)
class Text:
    """Plain text; an empty line begins a new paragraph."""

    text: str

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs, stripped."""
        return [part.strip() for part in re.split(r"\n\s*\n", self.text.strip())]


@dataclass(frozen=True)
class Commands:
    """Lines for a shell."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Details:
    """Preformatted text that is folded away under its summary."""

    summary: str
    text: str


Block: TypeAlias = Table | Figure | Text | Commands | Details


@dataclass(frozen=True)
class Section:
    """A part of a document."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Conclusion:
    """The conclusion of a report.

    Attributes:
        status: one of `STATUSES`.

    Raises:
        ArgumentError: the status is not one of those.
    """

    status: str
    sentence: str

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ArgumentError(f"status is {self.status!r}, but one of {', '.join(STATUSES)} is expected")


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        environment: where it was made, name to value.
        commands: shell lines that make it again.
    """

    title: str
    verdict: Conclusion
    sections: tuple[Section, ...]
    environment: Mapping[str, str]
    commands: tuple[str, ...]


def format_cell(value: CellValue) -> str:
    """The text of a cell: four significant digits for a float, thousands apart for an integer, "–" for None."""
    if value is None:
        return "–"
    if isinstance(value, Cell):
        return value.text
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if abs(value) >= 10_000 else str(value)
    return f"{value:.4g}" if isinstance(value, float) else value


def format_seconds(seconds: float) -> str:
    """Seconds in a unit that leaves a number between 1 and 1000."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def sort_value(value: CellValue) -> float | None:
    """The number that a cell is sorted by; None for one that is sorted by its text."""
    if isinstance(value, Cell):
        return value.value
    return float(value) if isinstance(value, int | float) else None
