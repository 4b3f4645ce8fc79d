"""Paths that are no ordinary files: one sentence and status 2, never a traceback or a wait without an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from nn_from_scratch.cli import main
from nn_from_scratch.errors import os_error_text
from nn_from_scratch.storage import resolved, write_atomically


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A link to itself, in the working folder."""
    monkeypatch.chdir(tmp_path)
    path = Path("loop")
    path.symlink_to("loop")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["denoise", "loop"],
        ["denoise", "picture.png", "--out", "loop"],
        ["verify", "torch:sin", "--input", "3", "--json", "loop"],
        ["verify", "torch:sin", "--input", "3", "--html", "loop"],
        ["verify", "--campaign", "loop"],
        ["bench", "report", "loop"],
        ["train", "--resume", "loop"],
        ["train", "--data", "loop"],
    ],
    ids=" ".join,
)
def test_a_link_in_a_circle_is_one_sentence(words: list[str], loop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) in (2, 4)  # bench has its own statuses
    said = capsys.readouterr().err
    assert said.startswith("nn-from-scratch: error: ")
    assert said.count("\n") == 1
    assert "loop" in said
    assert loop.is_symlink()


def test_resolving_a_link_in_a_circle_is_an_error_of_the_system(loop: Path) -> None:
    for call in (lambda: resolved(loop), lambda: write_atomically(loop, b"")):
        with pytest.raises(OSError, match="loop") as caught:
            call()
        assert os_error_text(caught.value).startswith("'loop': ")


@pytest.mark.parametrize("name", [".", "/", ""])
def test_a_picture_is_no_folder_without_a_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["denoise", name]) == 2
    assert capsys.readouterr().err.endswith("which is a folder: name a file\n")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no device without an end")
def test_a_campaign_is_not_read_from_a_device_without_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--campaign", "/dev/zero"]) == 2
    assert "campaign is '/dev/zero', which is a device: name a file" in capsys.readouterr().err


def test_an_argument_with_a_newline_is_told_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["denoise", "picture.png", "--nothing", "a\nb"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
