from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from nn_from_scratch.cli.display import TrainingDisplay
from nn_from_scratch.denoise.settings import TrainingProgress
from nn_from_scratch.storage import exclusive

Command = Callable[..., tuple[int, str, str]]

#: 70 steps an epoch, more than the 64 after which a run looks around for the first time.
STEPS = ("--epochs", "2", "--train-size", "140", "--validation-size", "2", "--batch-size", "2", "--lr", "0.1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    from nn_from_scratch.cli import main

    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", "--data", str(pictures), "--out", str(folder), *STEPS]) == 0
    return folder


def same_bits(one: Path, other: Path) -> bool:
    a, b = (load_file(folder / "checkpoint.safetensors") for folder in (one, other))
    losses = [
        [(entry["loss"], entry["psnr"]) for entry in json.loads((folder / "history.json").read_text())]
        for folder in (one, other)
    ]
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a) and losses[0] == losses[1]


def interrupt(
    monkeypatch: pytest.MonkeyPatch, *, epoch: int, step: int, times: int = 1, number: int = signal.SIGINT
) -> None:
    """Press Ctrl-C, or send another signal, when a run gets to this step."""
    shown = TrainingDisplay.on_progress

    def watched(self: TrainingDisplay, progress: TrainingProgress) -> None:
        shown(self, progress)
        if (progress.epoch, progress.step) == (epoch, step):
            for _ in range(times):
                signal.raise_signal(number)

    monkeypatch.setattr(TrainingDisplay, "on_progress", watched)


@pytest.mark.parametrize(("epoch", "step", "saved"), [(0, 64, "0 epochs and 64 steps of epoch 1"), (0, 70, "1 epoch")])
def test_after_ctrl_c_a_run_goes_on_to_the_same_bits(
    command: Command, monkeypatch: pytest.MonkeyPatch, pictures: Path, whole: Path, epoch: int, step: int, saved: str
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=epoch, step=step)
        status, _, error = command("train", "--data", pictures, "--out", "my run", *STEPS)
    assert status == 130
    assert error.splitlines()[-1] == (
        f"nn-from-scratch: interrupted: {saved} saved in 'my run'; go on with: nn-from-scratch train --resume 'my run'"
    )
    assert not same_bits(Path("my run"), whole)
    status, text, _ = command("train", "--resume", "my run")
    assert status == 0
    assert f"resuming my run after {saved}" in text
    assert same_bits(Path("my run"), whole)


@pytest.mark.skipif(os.name != "posix", reason="SIGHUP is a POSIX signal")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_requests_to_end_save_as_well(
    command: Command, monkeypatch: pytest.MonkeyPatch, pictures: Path, name: str
) -> None:
    interrupt(monkeypatch, epoch=0, step=64, number=getattr(signal, name))
    status, _, error = command("train", "--data", pictures, "--out", "run", *STEPS)
    assert status == 130
    assert "interrupted: 0 epochs and 64 steps of epoch 1 saved in run; go on with" in error


def test_two_trainings_do_not_write_into_one_folder(command: Command, pictures: Path, finished: Path) -> None:
    with exclusive(Path("run")):
        status, _, error = command("train", "--data", pictures, "--out", "run", *STEPS)
        assert (status, error) == (
            2,
            "nn-from-scratch: error: folder 'run' is in use by another process; wait, or name another\n",
        )
        assert not Path("run").exists()
    with exclusive(finished):
        assert command("train", "--resume", finished)[0] == 2


def test_two_ctrl_c_stop_at_once_and_what_was_saved_remains(
    command: Command, monkeypatch: pytest.MonkeyPatch, pictures: Path, whole: Path
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=1, step=64, times=2)
        status, _, error = command("train", "--data", pictures, "--out", "run", *STEPS)
    assert status == 130
    assert "interrupted: 1 epoch saved in run; go on with" in error
    assert command("train", "--resume", "run")[0] == 0
    assert same_bits(Path("run"), whole)


def test_ctrl_c_twice_before_anything_was_saved_leaves_nothing(
    command: Command, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    interrupt(monkeypatch, epoch=0, step=64, times=2)
    status, _, error = command("train", "--data", pictures, *STEPS)
    assert (status, error.splitlines()[-1]) == (130, "nn-from-scratch: interrupted")
    assert not list(Path().iterdir())


def test_the_handler_of_ctrl_c_is_given_back(finished: Path) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a POSIX signal")
@pytest.mark.parametrize(("epoch", "saved"), [(1, "1 epoch"), (0, "0 epochs")])
def test_after_kill_9_in_mid_epoch_a_run_goes_on_to_the_same_bits(
    command: Command, pictures: Path, whole: Path, epoch: int, saved: str
) -> None:
    program = (
        "import os, signal, sys\n"
        "from nn_from_scratch.cli import main\n"
        "from nn_from_scratch.cli.display import TrainingDisplay\n"
        "def kill(self, progress):\n"
        f"    if (progress.epoch, progress.step) == ({epoch}, 64):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "TrainingDisplay.on_progress = kill\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["train", "--data", str(pictures), "--out", "run", *STEPS]
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=False, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    status, text, _ = command("train", "--out", "run", "--resume")
    assert status == 0
    assert f"resuming run after {saved}\n" in text
    assert same_bits(Path("run"), whole)


def test_more_epochs_go_on_to_the_bits_of_a_longer_run(command: Command, pictures: Path, whole: Path) -> None:
    assert command("train", "--data", pictures, "--out", "run", *STEPS, "--epochs", 1)[0] == 0
    assert command("train", "--resume", "run", "--epochs", 2)[0] == 0
    assert same_bits(Path("run"), whole)
    assert json.loads(Path("run/settings.json").read_text())["epochs"] == 2


def test_the_newest_run_is_the_default(command: Command, finished: Path) -> None:
    shutil.copytree(finished, Path("runs/newest"))
    status, text, _ = command("train", "--resume", "--epochs", 4)
    assert status == 0
    assert "resuming runs/newest after 3 epochs" in text


def test_a_finished_run_gives_its_results_again(command: Command, finished_copy: Path) -> None:
    before = (finished_copy / "checkpoint.safetensors").read_bytes()
    (finished_copy / "pictures.png").unlink()
    history = (finished_copy / "history.json").read_text()
    (finished_copy / "history.json").write_text("[]")  # as if the run had been killed before writing it
    status, text, _ = command("train", "--resume", finished_copy)
    assert status == 0
    assert "this network" in text
    assert (finished_copy / "pictures.png").exists()
    assert (finished_copy / "history.json").read_text() == history
    assert (finished_copy / "checkpoint.safetensors").read_bytes() == before


def test_settings_may_be_repeated(command: Command, finished_copy: Path, pictures: Path) -> None:
    arguments = ("--lr", 0.1, "--seed", 0, "--noise", "gaussian", "--data", pictures)
    assert command("train", "--resume", finished_copy, *arguments)[0] == 0


def test_partial_files_of_a_killed_process_are_removed(command: Command, finished_copy: Path) -> None:
    partial = finished_copy / ".checkpoint.safetensors.0123abcd.partial"
    partial.touch()
    assert command("train", "--resume", finished_copy)[0] == 0
    assert not partial.exists()


@pytest.mark.parametrize(
    ("option", "value", "own"),
    [
        ("--lr", "0.2", "0.1"),
        ("--seed", "1", "0"),
        ("--batch-size", "9", "8"),
        ("--momentum", "0.5", "0.9"),
        ("--optimizer", "adam", "sgd"),
        ("--noise", "impulse:p=0.1", "gaussian:sigma=25"),
        ("--train-size", "65", "64"),
        ("--conv", "unfold", "auto"),
        ("--threads", "2", "1"),
    ],
)
def test_another_setting_than_the_runs_is_refused(
    refused: Callable[..., str], finished_copy: Path, option: str, value: str, own: str
) -> None:
    sentence = refused("train", "--resume", finished_copy, option, value).replace("'", "")
    assert sentence == (
        f"{option} is {value}, but the run to resume was started with {own}: leave {option} out, or start a new run"
    )


def test_fewer_epochs_than_are_done_are_refused(refused: Callable[..., str], finished_copy: Path) -> None:
    assert refused("train", "--resume", finished_copy, "--epochs", 2) == (
        "--epochs is 2, but the run to resume has 3 epochs behind it already: give at least as many"
    )


def test_data_that_has_changed_is_refused(
    refused: Callable[..., str], finished_copy: Path, pictures: Path, tmp_path: Path
) -> None:
    from nn_from_scratch.denoise.checkpoints import load_checkpoint, save_checkpoint
    from nn_from_scratch.denoise.model import report_model

    model = report_model()
    path = finished_copy / "checkpoint.safetensors"
    checkpoint = load_checkpoint(path, model)
    checkpoint.restore(model)
    information = {**checkpoint.information, "data_sha256": "0" * 64}
    save_checkpoint(path, model, progress=checkpoint.progress, information=information)
    assert "is no longer what the run in" in refused("train", "--resume", finished_copy)


def test_nothing_to_resume_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert refused("train", "--resume").startswith("no run to resume under '")
    assert refused("train", "--resume", "none") == "no run to resume in 'none': it holds no checkpoint.safetensors"
    assert refused("train", "--out", tmp_path, "--resume").startswith(f"no run to resume in '{tmp_path}'")
    message = "out is 'a', but --resume names the run 'b', which is written there: leave --out out"
    assert refused("train", "--out", "a", "--resume", "b") == message


def test_a_torn_checkpoint_is_refused(refused: Callable[..., str], finished_copy: Path) -> None:
    path = finished_copy / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    assert "it is truncated or something else" in refused("train", "--resume", finished_copy)
