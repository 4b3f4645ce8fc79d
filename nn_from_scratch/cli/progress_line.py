"""How far a long run is, on a terminal or in a log, and tables for both."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["ProgressLine", "print_table"]

#: Seconds between two lines where there is no terminal.
_SECONDS_BETWEEN_LINES = 15.0


class ProgressLine:
    """Context manager that shows a live line on a terminal, else a plain line now and then."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False)
        self._status = self._console.status("", spinner="line")
        self.begin()

    def __enter__(self) -> ProgressLine:
        self._status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._status.stop()

    def begin(self) -> None:
        """Count the time from here on."""
        self._began = self._said = time.perf_counter()
        self._done_before: int | None = None

    def say(self, line: str) -> None:
        """Write a line that stays."""
        self._console.print(line, markup=False, soft_wrap=True)

    def show(self, done: int, total: int, text: str) -> None:
        """Show the progress, and how long the rest will take.

        Args:
            done: how much is done; what was so before the first call took no time of this run.
            total: how much there is to do.
            text: what is counted, and what else is to be said.
        """
        if self._done_before is None:
            self._done_before = done - 1
        now = time.perf_counter()
        left = round((total - done) * (now - self._began) / max(done - self._done_before, 1))
        line = f"{done}/{total} {text}  {left // 60}:{left % 60:02d} left"
        if self._console.is_terminal:
            self._status.update(Text(line))
        elif now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            self.say(line)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first of which is the head, as columns; all but the first column are numbers."""
    table = Table.grid(padding=(0, 2))
    for column in range(len(rows[0])):
        table.add_column(justify="right" if column else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=sys.stdout, width=10_000).print(table)  # no terminal is so wide: nothing is cut, nor wrapped
