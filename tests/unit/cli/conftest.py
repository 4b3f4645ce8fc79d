from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nn_from_scratch.cli import main

Command = Callable[..., tuple[int, str, str]]

#: Settings of a run that takes a moment: 3 epochs of 8 steps.
TINY = ("--epochs", "3", "--train-size", "64", "--validation-size", "6", "--batch-size", "8", "--lr", "0.1")


def write_picture(path: Path, *, height: int = 40, width: int = 48, seed: int = 0) -> None:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line in an empty folder: gives exit status, standard output and standard error."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return status, written.out, written.err

    return run


@pytest.fixture
def refused(command: Command) -> Callable[..., str]:
    """Runs a command line that must fail with one sentence and leave nothing; gives the sentence."""

    def run(*arguments: object) -> str:
        status, _, error = command(*arguments)
        assert status == 2
        *notes, sentence = error.splitlines()
        assert all(note.startswith("nn-from-scratch: note: ") for note in notes)
        assert sentence.startswith("nn-from-scratch: error: ")
        assert not list(Path().iterdir())
        return sentence.removeprefix("nn-from-scratch: error: ")

    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three small pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        write_picture(folder / f"{number}.png", seed=number)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """The folder of a tiny run that was never interrupted; only to be read."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(["train", "--data", str(pictures), "--out", str(folder), *TINY]) == 0
    return folder


@pytest.fixture
def finished_copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, which may be changed."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))
