"""What is there already is neither replaced nor deleted, unless this program wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nn_from_scratch.cli import main

SOURCE = "import torch\n\nsine = torch.sin\n"
VERIFY = ["verify", "subject.py:sine", "--input", "3", "--checks", "gradient"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("subject.py").write_text(SOURCE)


@pytest.mark.parametrize("option", ["json", "markdown", "html"])
def test_a_source_file_is_not_written_over(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*VERIFY, f"--{option}", "subject.py"]) == 2
    assert f"{option} is 'subject.py', a file that this program did not write" in capsys.readouterr().err
    assert Path("subject.py").read_text() == SOURCE


def test_an_older_result_is_replaced() -> None:
    for _ in range(2):
        assert main([*VERIFY, "--json", "a.json", "--markdown", "a.md", "--html", "a.html"]) == 0


def test_two_outputs_in_one_file_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*VERIFY, "--json", "a", "--html", "a"]) == 2
    assert "html is 'a', and so is json: name two files" in capsys.readouterr().err
    assert not Path("a").exists()


def test_a_result_is_not_written_over_its_own_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*VERIFY, "--json", "a.json"]) == 0
    before = Path("a.json").read_bytes()
    assert main(["bench", "report", "a.json", "--html", "a.json"]) == 4
    assert "html is 'a.json', which is read as well: name another file" in capsys.readouterr().err
    assert Path("a.json").read_bytes() == before


def test_results_go_to_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*VERIFY, "--json", "/dev/null"]) == 0
    assert Path("/dev/null").is_char_device()
    assert main([*VERIFY, "--json", "/dev/full"]) == 2
    assert capsys.readouterr().err == "nn-from-scratch: error: '/dev/full': No space left on device\n"
