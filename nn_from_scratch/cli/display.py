"""What is seen while a network is trained: a live line on a terminal, else a plain line for each epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table

from nn_from_scratch.denoise.comparison import Score
from nn_from_scratch.denoise.progress import Progress as RunProgress

__all__ = ["TrainingDisplay", "say", "show_scores"]


def say(console: Console, sentence: str) -> None:
    """Write a line, unwrapped and at once, with nothing in it taken as markup."""
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    console.file.flush()


class TrainingDisplay:
    """Shows the progress of a run; a context manager, and its methods are the callbacks of `train`.

    Args:
        console: where to; it decides whether there is a terminal.
        epochs: of the whole run.
        pairs: number of training pairs.
        batch_size: pairs in a step.
        progress: where the run is taken up.
        noisy_psnr: of the noisy validation images, in dB.
    """

    def __init__(
        self,
        console: Console,
        *,
        epochs: int,
        pairs: int,
        batch_size: int,
        progress: RunProgress,
        noisy_psnr: float,
    ) -> None:
        self._console = console
        self._epochs = epochs
        self._pairs = pairs
        self._batch_size = batch_size
        self._noisy_psnr = noisy_psnr
        self._first = self._samples(progress)
        self._psnr = progress.history[-1].psnr if progress.history else None
        self._started = time.perf_counter()
        self._live: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> TrainingDisplay:
        self._started = time.perf_counter()
        if self._console.is_terminal:
            columns = (SpinnerColumn("line"), TextColumn("{task.description}"), BarColumn(bar_width=24))
            self._live = Progress(*columns, console=self._console, transient=True)
            self._task = self._live.add_task("starting", total=self._epochs * self._pairs, completed=self._first)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def on_progress(self, progress: RunProgress) -> None:
        """Show where a run is in an epoch; only a terminal does."""
        if self._live is None:
            return
        seen = min(progress.step * self._batch_size, self._pairs)
        psnr = "" if self._psnr is None else f"  validation {self._psnr:.2f} dB"
        rate = seen / progress.seconds if progress.seconds else 0.0
        text = (
            f"epoch {progress.epoch + 1}/{self._epochs}  loss {progress.loss_sum / seen:.5f}{psnr}  "
            f"{rate:.0f} samples/s  {self._time_left(progress)} left"
        )
        self._live.update(self._task, description=text, completed=self._samples(progress))

    def on_epoch(self, progress: RunProgress) -> None:
        """Show what a completed epoch has given."""
        result = progress.history[-1]
        self._psnr = result.psnr
        psnr = (
            "" if result.psnr is None else f"  validation PSNR {result.psnr:.2f} dB (noisy {self._noisy_psnr:.2f} dB)"
        )
        say(
            self._console,
            f"epoch {result.epoch}/{self._epochs}  loss {result.loss:.5f}{psnr}  "
            f"{result.samples_per_second:.0f} samples/s  {self._time_left(progress)} left",
        )

    def _samples(self, progress: RunProgress) -> int:
        return progress.epoch * self._pairs + min(progress.step * self._batch_size, self._pairs)

    def _time_left(self, progress: RunProgress) -> str:
        done = self._samples(progress)
        rate = (done - self._first) / max(time.perf_counter() - self._started, 1e-9)
        seconds = round((self._epochs * self._pairs - done) / max(rate, 1e-9))
        return f"{seconds // 60}:{seconds % 60:02d}"


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
