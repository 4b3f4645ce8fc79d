from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nn_from_scratch import Conv2d, Sequential
from nn_from_scratch.cli.display import TrainingDisplay
from nn_from_scratch.denoise.checkpoints import load_checkpoint, save_checkpoint
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.settings import TrainingProgress

Command = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]
SHORT = ("--epochs", "2", "--train-size", "16", "--validation-size", "2", "--batch-size", "4")


# ---- settings


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--lr", "0"), "lr is 0.0, but a finite number above 0 is expected"),
        (("--lr", "-1"), "lr is -1.0, but a finite number above 0 is expected"),
        (("--lr", "nan"), "lr is nan, but a finite number above 0 is expected"),
        (("--lr", "inf"), "lr is inf, but a finite number above 0 is expected"),
        (("--epochs", "0"), "epochs is 0, but an integer of at least 1 is expected"),
        (("--epochs", "-3"), "epochs is -3, but an integer of at least 1 is expected"),
        (("--batch-size", "0"), "batch_size is 0, but an integer of at least 1 is expected"),
        (("--momentum", "1"), "momentum is 1.0, but a number of at least 0 and below 1 is expected"),
        (("--train-size", "0"), "train_size is 0, but an integer of at least 1 is expected"),
        (("--threads", "0"), "threads is 0, but an integer of at least 1 is expected"),
        (("--noise", "fog"), "noise 'fog' has no known model 'fog'"),
        (("--noise", "gaussian:sigma=-5"), "sigma of the noise is -5.0"),
        (("--device", "tpu"), "device is 'tpu', but 'cpu', 'cuda' or 'cuda:NUMBER' is expected"),
        (("--json", "missing/results.json"), "json is 'missing/results.json', but a file in an existing folder is"),
    ],
)
def test_settings_that_make_no_sense(refused: Refused, arguments: tuple[str, ...], sentence: str) -> None:
    assert refused("train", *arguments).startswith(sentence)


def test_cuda_that_is_not_there(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refused("train", "--device", "cuda") == "device is 'cuda', but CUDA is not available here; 'cpu' is"


# ---- data


@pytest.mark.parametrize(
    ("folder", "size", "sentence"),
    [
        ("none", None, "does not exist"),
        ("", None, "holds no PNG, JPEG, WebP, BMP or TIFF pictures"),
        ("", (90, 31), "32x32"),
    ],
    ids=["missing", "empty", "small"],
)
def test_a_data_folder_without_a_usable_picture(
    refused: Refused, tmp_path: Path, folder: str, size: tuple[int, int] | None, sentence: str
) -> None:
    place = tmp_path / "pictures"
    place.mkdir()
    for name in ("a.png", "b.png") if size else ():
        Image.new("RGB", size).save(place / name)  # type: ignore[arg-type]
    assert sentence in refused("train", "--data", place / folder)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def course_files(folder: Path, *, train: object = None) -> Path:
    """Write small files of the course's form."""
    folder.mkdir()
    pair = (torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.ones(4, 3, 32, 32, dtype=torch.uint8))
    torch.save(pair if train is None else train, folder / "train_data.pkl")
    torch.save(pair, folder / "val_data.pkl")
    return folder


def test_a_pickle_that_would_run_code(refused: Refused, tmp_path: Path) -> None:
    folder = course_files(tmp_path / "course", train=_Bomb())
    assert "was refused" in refused("train", "--data", folder)
    (folder / "train_data.pkl").write_bytes(pickle.dumps(_Bomb()))
    refused("train", "--data", folder)


@pytest.mark.parametrize(
    "train",
    [
        (torch.zeros(4, 3, 32, 32), torch.zeros(4, 3, 32, 32)),
        (torch.zeros(4, 3, 28, 28, dtype=torch.uint8),) * 2,
        (torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.zeros(5, 3, 32, 32, dtype=torch.uint8)),
        torch.zeros(2, 4, 3, 32, 32, dtype=torch.uint8),
    ],
)
def test_a_course_file_of_another_form(refused: Refused, tmp_path: Path, train: object) -> None:
    folder = course_files(tmp_path / "course", train=train)
    assert "train_data.pkl" in refused("train", "--data", folder)


def test_the_courses_own_form_is_trained_on(command: Command, tmp_path: Path) -> None:
    status, _, error = command("train", "--data", course_files(tmp_path / "course"), *SHORT)
    assert status == 0
    assert "train_data.pkl is not the course's own file" in error


# ---- the run folder


def test_an_out_that_is_a_file(command: Command) -> None:
    Path("taken").write_text("mine")
    status, _, error = command("train", "--out", "taken")
    assert (status, error) == (2, "nn-from-scratch: error: out is 'taken', but a new or an empty folder is expected\n")
    assert Path("taken").read_text() == "mine"


def test_an_out_below_a_file(command: Command) -> None:
    Path("taken").write_text("mine")
    status, _, error = command("train", "--out", "taken/run")
    assert status == 2
    assert error == "nn-from-scratch: error: out is 'taken/run', where nothing can be written: Not a directory\n"


def test_an_out_that_is_not_empty(command: Command) -> None:
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("mine")
    status, _, error = command("train", "--out", "full")
    assert (status, error) == (2, "nn-from-scratch: error: out is 'full', but a new or an empty folder is expected\n")
    assert [path.name for path in Path("full").iterdir()] == ["thesis.txt"]


def test_an_out_that_holds_a_run(command: Command, finished_copy: Path) -> None:
    before = (finished_copy / "checkpoint.safetensors").read_bytes()
    status, _, error = command("train", "--out", finished_copy)
    assert status == 2
    assert "which holds a run already: continue it with --resume, or give a new folder" in error
    assert (finished_copy / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["mkdir", "touch"])
def test_an_out_without_permission(refused: Refused, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    allowed = getattr(Path, name)

    def denied(self: Path, *args: Any, **options: Any) -> None:
        if Path("run") in (self, self.parent):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        allowed(self, *args, **options)

    monkeypatch.setattr(Path, name, denied)
    assert refused("train", "--out", "run") == "out is 'run', where nothing can be written: Permission denied"


# ---- checkpoints


def test_a_checkpoint_of_another_architecture(refused: Refused, finished_copy: Path) -> None:
    save_checkpoint(finished_copy / "checkpoint.safetensors", Sequential(Conv2d(3, 3, 1)), progress=TrainingProgress())
    assert "is of another architecture" in refused("train", "--resume", finished_copy)


def test_a_checkpoint_with_weights_that_are_not_finite(refused: Refused, finished_copy: Path) -> None:
    model = report_model()
    model.parameters()["0.weight"][0] = torch.nan
    save_checkpoint(finished_copy / "checkpoint.safetensors", model, progress=TrainingProgress())
    assert "has values in 'model.0.weight' that are not finite" in refused("train", "--resume", finished_copy)


# ---- the disk is full


def fill_disk(monkeypatch: pytest.MonkeyPatch, *, at_epoch: int) -> None:
    """From the end of this epoch on nothing can be written any more."""
    shown = TrainingDisplay.on_progress

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def watched(self: TrainingDisplay, progress: TrainingProgress) -> None:
        shown(self, progress)
        if progress.epoch + 1 == at_epoch:
            monkeypatch.setattr(os, "fsync", full)

    monkeypatch.setattr(TrainingDisplay, "on_progress", watched)


def test_a_full_disk_keeps_the_last_checkpoint(
    command: Command, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    with monkeypatch.context() as patch:
        fill_disk(patch, at_epoch=2)
        status, _, error = command("train", "--data", pictures, "--out", "run", *SHORT)
    assert (status, error) == (
        2,
        "nn-from-scratch: error: checkpoint 'run/checkpoint.safetensors' cannot be written: No space left on device; "
        "the one that was there is unharmed\n",
    )
    progress = load_checkpoint(Path("run/checkpoint.safetensors"), report_model()).progress
    assert progress is not None
    assert progress.epoch == 1
    assert not list(Path("run").glob(".*"))
    assert command("train", "--resume", "run")[0] == 0


def test_a_full_disk_in_the_first_epoch_leaves_nothing(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    fill_disk(monkeypatch, at_epoch=1)
    assert "No space left on device" in refused("train", "--data", pictures, "--out", "a/run", *SHORT)


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX")
def test_a_limit_on_the_size_of_files_keeps_the_last_checkpoint(finished_copy: Path) -> None:
    before = (finished_copy / "checkpoint.safetensors").read_bytes()
    program = (
        "import resource, sys\n"
        "from nn_from_scratch.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["train", "--resume", str(finished_copy), "--epochs", "4"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("nn-from-scratch: error: checkpoint ")
    assert "cannot be written: File too large; the one that was there is unharmed" in done.stderr
    assert "Traceback" not in done.stderr
    assert (finished_copy / "checkpoint.safetensors").read_bytes() == before
    assert not list(finished_copy.glob(".*"))


# ---- the loss


def test_a_loss_that_is_not_finite_at_once_leaves_nothing(refused: Refused, pictures: Path) -> None:
    sentence = refused("train", "--data", pictures, "--lr", "1e30", *SHORT)
    assert sentence == "the loss is nan in epoch 1 at step 2; a smaller learning rate may help"


def change_settings(run: Path, **values: object) -> None:
    """Make it look as if the run had been started with other settings."""
    model = report_model()
    path = run / "checkpoint.safetensors"
    checkpoint = load_checkpoint(path, model)
    checkpoint.restore(model)
    information = {**checkpoint.information, "settings": {**checkpoint.information["settings"], **values}}
    save_checkpoint(path, model, progress=checkpoint.progress, information=information)


def test_a_loss_that_is_not_finite_later_keeps_the_last_checkpoint(command: Command, finished_copy: Path) -> None:
    change_settings(finished_copy, lr=1e30)
    path = finished_copy / "checkpoint.safetensors"
    before = path.read_bytes()
    status, _, error = command("train", "--resume", finished_copy, "--epochs", 4)
    assert (status, error) == (
        2,
        "nn-from-scratch: error: the loss is nan in epoch 4 at step 2; a smaller learning rate may help; "
        f"'{path}' keeps 3 epochs\n",
    )
    assert path.read_bytes() == before


def test_data_that_has_gone_does_not_cost_the_run(refused: Refused, finished_copy: Path) -> None:
    change_settings(finished_copy, data="/nowhere/at/all")
    before = sorted(finished_copy.iterdir())
    assert "'/nowhere/at/all' does not exist" in refused("train", "--resume", finished_copy)
    assert sorted(finished_copy.iterdir()) == before
