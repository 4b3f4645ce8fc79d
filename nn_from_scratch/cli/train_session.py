"""One session of training: a new run or an older one, from its start to the final table."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from nn_from_scratch.cli.display import TrainingDisplay, say, show_scores
from nn_from_scratch.cli.interrupts import stop_on_interrupt, stop_on_signals
from nn_from_scratch.cli.replica import send_settings
from nn_from_scratch.denoise.data import PairSet, fingerprint, load_pairs, parse_noise
from nn_from_scratch.denoise.distributed.replicas import Replicas
from nn_from_scratch.denoise.model import apply_to_images, report_model
from nn_from_scratch.denoise.run_figures import draw_grid, draw_training_curve
from nn_from_scratch.denoise.runs import RunFolder, find_run, new_run
from nn_from_scratch.denoise.scores import MOST_COMPARED, compare, psnr
from nn_from_scratch.denoise.settings import RunSettings, TrainingProgress, resumed_settings
from nn_from_scratch.denoise.training import check_device, computing_as, make_optimizer, train
from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.errors import CheckpointError, DivergenceError, ReplicaError
from nn_from_scratch.storage import exclusive, write_results


@dataclass
class _TrainingSession:
    """A run with all that it is trained with."""

    console: Console
    run: RunFolder
    settings: RunSettings
    model: Module
    optimizer: Optimizer
    progress: TrainingProgress
    pairs: PairSet
    information: dict[str, Any]
    replicas: Replicas | None

    def save(self, progress: TrainingProgress) -> None:
        self.run.save(self.model, self.optimizer, progress, settings=self.settings, information=self.information)
        self.progress = progress

    @property
    def is_untrained(self) -> bool:
        """Whether nothing of a new run was saved that is worth keeping."""
        return self.progress == TrainingProgress() and self.run.is_new

    def go_on(self, json_path: Path | None) -> int:
        """Train to the end or to an interrupt; give the exit status."""
        console, settings, replicas = self.console, self.settings, self.replicas
        noisy_psnr = psnr(self.pairs.validation_noisy, self.pairs.validation_clean)
        console.print(repr(self.model), markup=False, highlight=False)
        say(console, f"{self.optimizer!r}, batch size {settings.batch_size}, seed {settings.seed}, {settings.device}")
        if replicas is not None:
            say(console, f"{replicas.size} processes, each with a part of every batch")
            replicas.broadcast(self.run.checkpoint.read_bytes())
        say(console, f"run folder: {self.run.folder}")
        display = TrainingDisplay(
            console,
            epochs=settings.epochs,
            pairs=len(self.pairs.train_noisy_a),
            batch_size=settings.batch_size,
            progress=self.progress,
            noisy_psnr=noisy_psnr,
        )

        def on_epoch(progress: TrainingProgress) -> None:
            self.save(progress)
            display.on_epoch(progress)

        try:
            with stop_on_interrupt() if replicas is None else stop_on_signals() as stop, display:
                reached = train(
                    self.model,
                    self.optimizer,
                    self.pairs,
                    settings=settings,
                    progress=self.progress,
                    on_progress=display.on_progress,
                    on_epoch=on_epoch,
                    stop=stop if replicas is None else replicas.agreed(stop),
                    replicas=replicas,
                    capture=settings.capture,
                )
            if reached != self.progress:
                self.save(reached)
            if reached.epoch < settings.epochs:
                return self._interrupted()
            self._finish(noisy_psnr, json_path)
        except KeyboardInterrupt:
            if self.is_untrained:
                raise
            return self._interrupted()
        except (DivergenceError, ReplicaError) as error:
            if self.is_untrained:
                raise
            raise type(error)(f"{error}; {str(self.run.checkpoint)!r} keeps {self.progress.describe()}") from error
        return 0

    def _interrupted(self) -> int:
        folder = shlex.quote(str(self.run.folder))
        sys.stderr.write(
            f"nn-from-scratch: interrupted: {self.progress.describe()} saved in {folder}; "
            f"go on with: nn-from-scratch train --resume {folder}\n"
        )
        return 130

    def _finish(self, noisy_psnr: float, json_path: Path | None) -> None:
        noisy, clean = self.pairs.validation_noisy, self.pairs.validation_clean
        images = min(len(clean), MOST_COMPARED)
        say(
            self.console,
            f"comparing with non-local means, which is told the strength of the noise, on {images} images ...",
        )
        denoised = apply_to_images(self.model, noisy)
        scores = compare(noisy, denoised, clean)
        draw_training_curve(self.run.curve, self.progress.history, noisy_psnr=noisy_psnr)
        draw_grid(self.run.grid, noisy, denoised, clean)
        results = {
            "run": str(self.run.folder),
            "settings": asdict(self.settings),
            "data": self.pairs.source,
            "noise": self.pairs.noise,
            "notices": list(self.pairs.notices),
            "images_compared": images,
            "scores": [asdict(score) for score in scores],
            "history": [asdict(result) for result in self.progress.history],
        }
        for path in (self.run.results, json_path):
            if path is not None:
                write_results(path, results)
        show_scores(self.console, scores, images=images)
        seconds = sum(result.seconds for result in self.progress.history)
        say(
            self.console,
            f"{self.progress.describe()} in {seconds:.0f} s; model, history and figures are in {self.run.folder}",
        )


def start_run(
    settings: RunSettings, *, out: Path | None, json_path: Path | None, replicas: Replicas | None = None
) -> int:
    """Start a new run; after a failure before the end of the first epoch nothing of it is left.

    Raises:
        NNFromScratchError: something is wrong with the settings, the data or the folder, or the training failed.
    """
    settings = replace(settings, noise=str(parse_noise(settings.noise)))
    device = check_device(settings.device) if replicas is None else send_settings(replicas, settings)
    if out is None:  # a name of its own, which no other process has
        return _start(new_run(None), settings, device, json_path, replicas)
    with exclusive(out):
        return _start(new_run(out), settings, device, json_path, replicas)


def _start(
    run: RunFolder, settings: RunSettings, device: torch.device, json_path: Path | None, replicas: Replicas | None
) -> int:
    session: _TrainingSession | None = None
    try:
        with computing_as(settings):
            console = Console(file=sys.stdout)
            pairs = _load(console, settings)
            information = {"data": pairs.source, "noise": pairs.noise, "data_sha256": fingerprint(pairs)}
            generator = torch.Generator().manual_seed(settings.seed)
            model = report_model(generator=generator, dtype=torch.float32).to(device)
            optimizer, progress = make_optimizer(model, settings), TrainingProgress()
            session = _TrainingSession(console, run, settings, model, optimizer, progress, pairs, information, replicas)
            session.save(progress)
            return session.go_on(json_path)
    except BaseException:
        if session is None or session.is_untrained:
            run.discard()
        raise


def resume_run(
    folder: Path | None, *, explicit: dict[str, Any], json_path: Path | None, replicas: Replicas | None = None
) -> int:
    """Go on with an older run.

    Raises:
        NNFromScratchError: there is no whole run, another setting was asked for than its own, or the training failed.
    """
    run = find_run(folder)
    with exclusive(run.folder):
        return _resume(run, explicit, json_path, replicas)


def _resume(run: RunFolder, explicit: dict[str, Any], json_path: Path | None, replicas: Replicas | None) -> int:
    model = report_model(dtype=torch.float32)
    checkpoint, progress, stored = run.load(model)
    if "noise" in explicit:
        explicit = {**explicit, "noise": str(parse_noise(explicit["noise"]))}
    settings = resumed_settings(stored, explicit, epochs_done=progress.epoch + (progress.step > 0))
    device = check_device(settings.device) if replicas is None else send_settings(replicas, settings)
    model.to(device)
    optimizer = make_optimizer(model, settings)
    checkpoint.restore(model, optimizer)
    with computing_as(settings):
        console = Console(file=sys.stdout)
        pairs = _load(console, settings)
        if fingerprint(pairs) != checkpoint.information.get("data_sha256"):
            raise CheckpointError(
                f"the training data ({pairs.source}) is no longer what the run in {str(run.folder)!r} was started "
                "with, so it cannot be resumed: restore the data, or start a new run"
            )
        information = {name: value for name, value in checkpoint.information.items() if name != "settings"}
        session = _TrainingSession(console, run, settings, model, optimizer, progress, pairs, information, replicas)
        run.write_records(progress, settings=settings, information=information)  # a kill may have come before it
        say(console, f"resuming {run.folder} after {progress.describe()}")
        return session.go_on(json_path)


def _load(console: Console, settings: RunSettings) -> PairSet:
    pairs = load_pairs(**settings.data_options)
    say(
        console,
        f"{len(pairs.train_noisy_a)} noisy pairs and {len(pairs.validation_clean)} validation images: "
        f"{pairs.source}; noise: {pairs.noise}",
    )
    for notice in pairs.notices:
        sys.stderr.write(f"nn-from-scratch: note: {notice}\n")
    return pairs
