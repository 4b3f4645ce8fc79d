"""What is seen on a terminal, or in a log, while a command works: how far it is, and tables."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from typing_extensions import Self

    from nn_from_scratch.denoise.scores import Score
    from nn_from_scratch.denoise.settings import TrainingProgress


def say(console: Console, sentence: str) -> None:
    """Write a line, unwrapped and at once, with nothing in it taken as markup."""
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    console.file.flush()


class ProgressLine:
    """Context manager that shows a live line on a terminal, else a plain line now and then.

    Args:
        console: where to; it decides whether there is a terminal. Standard output by default.
    """

    #: Where there is no terminal.
    seconds_between_lines = 15.0

    def __init__(self, console: Console | None = None) -> None:
        self.console = console if console is not None else Console(file=sys.stdout)
        columns = SpinnerColumn("line"), TextColumn("{task.description}", markup=False), BarColumn(bar_width=24)
        self._live = Progress(*columns, console=self.console, transient=True)
        self._task = self._live.add_task("starting", total=None)
        self.begin()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def begin(self, done: int | None = None) -> None:
        """Count the time from here on.

        Args:
            done: what is done already; by default all but one when progress is first shown.
        """
        self._began = self._said = time.perf_counter()
        self._done_before = done

    def show(self, done: int, total: int, text: str) -> None:
        """Show a text with the progress that it tells of, and how long the rest will take."""
        line = f"{text}  {self.time_left(done, total)} left"
        now = time.perf_counter()
        if self.console.is_terminal:
            self._live.update(self._task, description=line, completed=done, total=total)
        elif now - self._said >= self.seconds_between_lines:
            self._said = now
            say(self.console, line)

    def time_left(self, done: int, total: int) -> str:
        """How long the rest will take, in minutes and seconds."""
        if self._done_before is None:
            self._done_before = done - 1
        rate = (done - self._done_before) / max(time.perf_counter() - self._began, 1e-9)
        seconds = round((total - done) / max(rate, 1e-9))
        return f"{seconds // 60}:{seconds % 60:02d}"


class TrainingDisplay(ProgressLine):
    """Shows the progress of a run; its methods are the callbacks of `train`.

    Args:
        epochs: of the whole run.
        progress: where the run is taken up.
        noisy_psnr: of the noisy validation images, in dB.
    """

    seconds_between_lines = math.inf  # an epoch has its own line

    def __init__(
        self,
        console: Console,
        *,
        epochs: int,
        pairs: int,
        batch_size: int,
        progress: TrainingProgress,
        noisy_psnr: float,
    ) -> None:
        super().__init__(console)
        self._epochs = epochs
        self._pairs = pairs
        self._batch_size = batch_size
        self._noisy_psnr = noisy_psnr
        self._psnr = progress.history[-1].psnr if progress.history else None
        self._total = epochs * pairs
        self.begin(self._samples(progress))

    def on_progress(self, progress: TrainingProgress) -> None:
        """Show where a run is in an epoch; only a terminal does."""
        seen = min(progress.step * self._batch_size, self._pairs)
        psnr = "" if self._psnr is None else f"  validation {self._psnr:.2f} dB"
        rate = seen / progress.seconds if progress.seconds else 0.0
        epoch = f"epoch {progress.epoch + 1}/{self._epochs}"
        text = f"{epoch}  loss {progress.loss_sum / seen:.5f}{psnr}  {rate:.0f} samples/s"
        self.show(self._samples(progress), self._total, text)

    def on_epoch(self, progress: TrainingProgress) -> None:
        """Show what a completed epoch has given."""
        result = progress.history[-1]
        self._psnr = result.psnr
        psnr = (
            "" if result.psnr is None else f"  validation PSNR {result.psnr:.2f} dB (noisy {self._noisy_psnr:.2f} dB)"
        )
        say(
            self.console,
            f"epoch {result.epoch}/{self._epochs}  loss {result.loss:.5f}{psnr}  "
            f"{result.samples_per_second:.0f} samples/s  {self.time_left(self._samples(progress), self._total)} left",
        )

    def _samples(self, progress: TrainingProgress) -> int:
        return progress.epoch * self._pairs + min(progress.step * self._batch_size, self._pairs)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first of which is the head, as columns; all but the first column are numbers."""
    table = Table.grid(padding=(0, 2))
    for column in range(len(rows[0])):
        table.add_column(justify="right" if column else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=sys.stdout, width=10_000).print(table)  # no terminal is so wide: nothing is cut, nor wrapped


def show_scores(console: Console, scores: Sequence[Score], *, images: int) -> None:
    """Show the final table."""
    table = Table(title=f"{images} validation images", title_justify="left")
    table.add_column("")
    for heading in ("PSNR", "of all pixels", "SSIM"):
        table.add_column(heading, justify="right")
    for score in scores:
        table.add_row(score.name, f"{score.psnr:.2f} dB", f"{score.pooled_psnr:.2f} dB", f"{score.ssim:.4f}")
    console.print(table)
    sys.stdout.flush()


def counted(number: int, noun: str) -> str:
    """A number with its noun, as in "1 case" and "2 cases"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
