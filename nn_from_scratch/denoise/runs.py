"""Run folders: where a training run keeps its checkpoint, settings, history and figures."""

from __future__ import annotations

import contextlib
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from nn_from_scratch import __version__
from nn_from_scratch.denoise.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from nn_from_scratch.denoise.denoiser import CHECKPOINT_NAME
from nn_from_scratch.denoise.settings import RunSettings, TrainingProgress, stored_settings
from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.errors import ArgumentError, CheckpointError
from nn_from_scratch.storage import remove_partial_files, write_json

_HOME = Path("runs")
_NAME = "%Y-%m-%d_%H-%M-%S"


class RunFolder:
    """The folder of one run.

    Args:
        created: the folders that were made for it, outermost first; empty for an older run.

    Attributes:
        checkpoint, settings, history, results, curve, grid: the files in it.
    """

    def __init__(self, folder: Path, *, created: tuple[Path, ...] = (), is_new: bool = False) -> None:
        self.folder = folder
        self.checkpoint = folder / CHECKPOINT_NAME
        self.settings = folder / "settings.json"
        self.history = folder / "history.json"
        self.results = folder / "results.json"
        self.curve = folder / "training-curve.png"
        self.grid = folder / "pictures.png"
        self.is_new = is_new
        self._created = created

    def save(
        self,
        model: Module,
        optimizer: Optimizer,
        progress: TrainingProgress,
        *,
        settings: RunSettings,
        information: Mapping[str, Any],
    ) -> None:
        """Write the checkpoint, and then the records.

        Raises:
            CheckpointError: the disk is full or not writable; the old checkpoint is unharmed.
        """
        save_checkpoint(
            self.checkpoint,
            model,
            optimizer=optimizer,
            progress=progress,
            information={**information, "settings": asdict(settings)},
        )
        self.write_records(progress, settings=settings, information=information)

    def write_records(
        self, progress: TrainingProgress, *, settings: RunSettings, information: Mapping[str, Any]
    ) -> None:
        """Write the history and the settings, for people and other programs.

        The checkpoint holds both as well, so these files never decide anything.

        Raises:
            CheckpointError: the disk is full or not writable; the checkpoint is whole.
        """
        versions = {"nn_from_scratch": __version__, "torch": torch.__version__, "python": platform.python_version()}
        try:
            write_json(self.history, [asdict(result) for result in progress.history])
            write_json(
                self.settings, {**asdict(settings), "data_sha256": information.get("data_sha256"), "versions": versions}
            )
        except OSError as error:
            raise CheckpointError(
                f"run folder {str(self.folder)!r} cannot be written: {error.strerror or error}; "
                f"its checkpoint of {progress.describe()} is whole"
            ) from error

    def load(self, model: Module) -> tuple[Checkpoint, TrainingProgress, RunSettings]:
        """Read and verify the checkpoint; the model is not changed.

        Raises:
            CheckpointError: it is missing, damaged, of another architecture, or no checkpoint of a run.
        """
        checkpoint = load_checkpoint(self.checkpoint, model)
        try:
            settings = stored_settings(checkpoint.information["settings"])
        except (KeyError, TypeError, ArgumentError) as error:
            raise CheckpointError(
                f"checkpoint {str(self.checkpoint)!r} holds no settings of a run, so it cannot be resumed ({error})"
            ) from error
        if checkpoint.progress is None:
            raise CheckpointError(f"checkpoint {str(self.checkpoint)!r} holds a model but no run to resume")
        remove_partial_files(self.folder)
        return checkpoint, checkpoint.progress, settings

    def discard(self) -> None:
        """Remove a new run with all that was made for it; an older one is left alone."""
        if not self.is_new:
            return
        self.is_new = False
        if self.folder in self._created:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            remove_partial_files(self.folder)
            for path in (self.checkpoint, self.settings, self.history, self.results, self.curve, self.grid):
                path.unlink(missing_ok=True)
        for folder in reversed(self._created):
            with contextlib.suppress(OSError):  # something else was put there
                folder.rmdir()


def new_run(folder: Path | None) -> RunFolder:
    """Make the folder of a new run.

    Args:
        folder: it must not exist yet, or be empty; None for a new folder under `runs`, named by date and time.

    Raises:
        ArgumentError: the folder holds something already, or cannot be made or written.
    """
    if folder is None:
        for attempt in range(1, 1000):
            name = datetime.now().strftime(_NAME) + (f"-{attempt}" if attempt > 1 else "")
            with contextlib.suppress(FileExistsError):
                return _make(_HOME / name, empty_is_fine=False)
    else:
        with contextlib.suppress(FileExistsError):
            return _make(folder, empty_is_fine=True)
        if (folder / CHECKPOINT_NAME).exists():
            raise ArgumentError(
                f"out is {str(folder)!r}, which holds a run already: continue it with --resume, or give a new folder"
            )
    raise ArgumentError(f"out is {str(folder or _HOME)!r}, but a new or an empty folder is expected")


def find_run(folder: Path | None) -> RunFolder:
    """Find a run that can be resumed.

    Args:
        folder: the run's folder; None for the newest under `runs`.

    Raises:
        CheckpointError: there is none.
    """
    if folder is not None:
        if not (folder / CHECKPOINT_NAME).is_file():
            raise CheckpointError(f"no run to resume in {str(folder)!r}: it holds no {CHECKPOINT_NAME}")
        return RunFolder(folder)
    found = [path.parent for path in _HOME.glob(f"*/{CHECKPOINT_NAME}")]
    if not found:
        raise CheckpointError(f"no run to resume under {str(_HOME.absolute())!r}: name its folder, as in --resume DIR")
    return RunFolder(max(found, key=lambda path: (path / CHECKPOINT_NAME).stat().st_mtime_ns))


def _make(folder: Path, *, empty_is_fine: bool) -> RunFolder:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    run = RunFolder(folder, created=tuple(reversed(missing)), is_new=True)
    try:
        folder.mkdir(parents=True, exist_ok=empty_is_fine)
        if any(folder.iterdir()):
            raise FileExistsError
        probe = folder / ".probe.partial"
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise
    except OSError as error:
        run.discard()
        raise ArgumentError(
            f"out is {str(folder)!r}, where nothing can be written: {error.strerror or error}"
        ) from error
    return run
