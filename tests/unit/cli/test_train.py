from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from nn_from_scratch.cli.display import TrainingDisplay
from nn_from_scratch.denoise.denoiser import Denoiser
from nn_from_scratch.denoise.runs import RunFolder, find_run, new_run
from nn_from_scratch.denoise.settings import EpochResult, TrainingProgress
from nn_from_scratch.errors import CheckpointError

Command = Callable[..., tuple[int, str, str]]
SHORT = ("--epochs", "1", "--train-size", "16", "--validation-size", "2")


def test_a_run_leaves_what_it_promises(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "checkpoint.safetensors",
        "history.json",
        "settings.json",
        "results.json",
        "training-curve.png",
        "pictures.png",
    }
    for name in ("training-curve.png", "pictures.png"):
        with Image.open(finished / name) as image:
            assert image.format == "PNG"


def test_the_history_has_every_epoch(finished: Path) -> None:
    history = json.loads((finished / "history.json").read_text())
    assert [set(entry) for entry in history] == [{"epoch", "loss", "psnr", "seconds", "samples_per_second"}] * 3
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert all(entry["loss"] > 0 and entry["psnr"] > 0 and entry["seconds"] > 0 for entry in history)


def test_the_settings_are_those_that_were_given(finished: Path, pictures: Path) -> None:
    settings = json.loads((finished / "settings.json").read_text())
    assert settings.pop("versions")["torch"] == torch.__version__
    assert re.fullmatch("[0-9a-f]{64}", settings.pop("data_sha256"))
    assert settings == {
        "epochs": 3,
        "batch_size": 8,
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "seed": 0,
        "precision": "float32",
        "data": str(pictures),
        "noise": "gaussian:sigma=25",
        "train_size": 64,
        "validation_size": 6,
        "device": "cpu",
        "conv": "auto",
        "threads": 1,
        "capture": True,
    }


def test_the_results_compare_noisy_input_baseline_and_network(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert [score["name"] for score in results["scores"]] == ["noisy input", "non-local means", "this network"]
    assert results["history"] == json.loads((finished / "history.json").read_text())
    assert results["scores"][2]["psnr"] == results["history"][-1]["psnr"]


def test_the_run_is_a_model_for_the_denoiser(finished: Path) -> None:
    assert Denoiser.load(finished).information["settings"]["lr"] == 0.1


def test_without_a_terminal_there_is_a_plain_line_for_each_epoch(command: Command, pictures: Path) -> None:
    status, text, error = command("train", "--data", pictures, *SHORT, "--epochs", 2, "--json", "results.json")
    assert (status, error) == (0, "")
    lines = [line for line in text.splitlines() if line.startswith("epoch ")]
    pattern = (
        r"epoch (\d)/2  loss \d\.\d{5}  validation PSNR \d+\.\d\d dB \(noisy \d+\.\d\d dB\)  "
        r"\d+ samples/s  \d:\d\d left"
    )
    assert [re.fullmatch(pattern, line)[1] for line in lines] == ["1", "2"]  # type: ignore[index]
    assert "\x1b" not in text
    (run,) = Path("runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", run.name)
    assert str(run) in text.splitlines()[-1]
    assert json.loads(Path("results.json").read_text()) == json.loads((run / "results.json").read_text())


def test_the_built_in_photographs_are_the_default_data(command: Command) -> None:
    status, text, _ = command("train", *SHORT, "--optimizer", "adam", "--noise", "impulse", "--out", "run")
    assert status == 0
    assert "photographs of scikit-image" in text
    settings = json.loads(Path("run/settings.json").read_text())
    assert (settings["lr"], settings["momentum"], settings["noise"]) == (0.01, 0.0, "impulse:p=0.1")


def test_the_threads_are_given_back(command: Command, pictures: Path) -> None:
    before = torch.get_num_threads()
    assert command("train", "--data", pictures, *SHORT, "--threads", before + 1)[0] == 0
    assert torch.get_num_threads() == before


def test_skipped_pictures_are_named_and_the_others_used(command: Command, pictures: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in pictures.iterdir():
        (mixed / path.name).write_bytes(path.read_bytes())
    content = (pictures / "0.png").read_bytes()
    (mixed / "broken.png").write_bytes(content[: len(content) // 2])
    (mixed / "torn.png").write_bytes(content[:20])
    status, _, error = command("train", "--data", mixed, *SHORT)
    assert status == 0
    assert error.startswith("nn-from-scratch: note: 2 pictures skipped, unreadable: broken.png")
    assert "torn.png" in error


def test_a_live_line_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(force_terminal=True, width=160, legacy_windows=False)
    history = (EpochResult(epoch=1, loss=0.5, psnr=21.5, seconds=2, samples_per_second=50),)
    display = TrainingDisplay(console, epochs=2, pairs=100, batch_size=10, progress=TrainingProgress(), noisy_psnr=20.0)
    with display:
        display.on_progress(TrainingProgress(step=5, loss_sum=25.0, seconds=1.0))
        display.on_epoch(TrainingProgress(history=history))
        display.on_progress(TrainingProgress(history=history, step=10, loss_sum=25.0, seconds=1.0))
    text = capsys.readouterr().out
    assert "epoch 1/2  loss 0.50000  validation PSNR 21.50 dB (noisy 20.00 dB)  50 samples/s" in text
    assert "epoch 2/2  loss 0.25000  validation 21.50 dB  100 samples/s" in text


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {new_run(None).folder for _ in range(3)}
    assert len(folders) == 3


def test_a_discarded_run_takes_its_new_parents_along(tmp_path: Path) -> None:
    new_run(tmp_path / "a" / "b" / "c").discard()
    assert not list(tmp_path.iterdir())
    (tmp_path / "kept").mkdir()
    run = new_run(tmp_path / "kept")
    run.checkpoint.touch()
    run.discard()
    assert not list((tmp_path / "kept").iterdir())


def test_an_older_run_is_never_discarded(finished_copy: Path) -> None:
    RunFolder(finished_copy).discard()
    assert (finished_copy / "checkpoint.safetensors").exists()


def test_the_newest_run_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.chdir(tmp_path)
    for name, age in (("b", 10), ("a", 5), ("c", 20)):
        path = tmp_path / "runs" / name / "checkpoint.safetensors"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "runs" / "z").mkdir()
    assert find_run(None).folder == Path("runs/a")


def test_the_fingerprint_covers_every_part_of_the_data(pictures: Path) -> None:
    from dataclasses import replace

    from nn_from_scratch.denoise.data import fingerprint, load_pairs

    pairs = load_pairs(pictures, train_size=4, validation_size=2)
    prints = {fingerprint(pairs)}
    for name in ("train_noisy_a", "train_noisy_b", "validation_noisy", "validation_clean"):
        changed = getattr(pairs, name).clone()
        changed[-1, -1, -1, -1] ^= 1
        prints.add(fingerprint(replace(pairs, **{name: changed})))
    assert len(prints) == 5


def test_a_model_alone_is_no_run(tmp_path: Path) -> None:
    denoiser = Denoiser()
    denoiser.save(tmp_path / "checkpoint.safetensors")
    with pytest.raises(CheckpointError, match="holds no settings of a run, so it cannot be resumed"):
        RunFolder(tmp_path).load(denoiser.model)
