"""Campaigns from their start to the report; over workers, killed and resumed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nn_from_scratch.cli import main
from nn_from_scratch.report.results_file import read_results

ROOT = Path(__file__).parents[3]
SUBJECTS = """
import os
import torch

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        print("this must not be seen")
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g

class Flipped(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return -2 * x * g

class Striding(Square):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g.as_strided(x.shape, (x.shape[1], 1))

def crashing(x):
    os.kill(os.getpid(), 9)

def hanging(x):
    import ctypes
    ctypes.PyDLL(None).sleep(100)  # holds the interpreter, so that no thread of ours could end it
"""


def subject(name: str, more: str = "") -> str:
    return f'[[subject]]\ntarget = "subjects.py:{name}"\ninputs = ["4,3"]\nchecks = ["gradient"]\n{more}\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "subjects.py").write_text(SUBJECTS, encoding="utf-8")
    return tmp_path


def test_the_example_of_the_documentation_finds_its_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example = ROOT / "docs" / "campaign_example" / "campaign.toml"
    assert example.read_text(encoding="utf-8").startswith(
        (ROOT / "docs" / "campaigns.md").read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    )
    files = ["--json", "report.json", "--markdown", "report.md", "--html", "report.html"]
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert main(["verify", "--campaign", str(example), "--jobs", "0", *files]) == 1
    text = capsys.readouterr().out
    assert text.splitlines()[0] == "8 cases; results are kept in .nnfs_campaign"
    assert text.splitlines()[-1] == "8 cases: 7 correct, 1 wrong"
    assert "\nwrong: Mean/wide: gradient of x: wrong; 64 of 64 entries differ" in text
    report = read_results(Path("report.json"))["results"]
    assert report["counts"] == {"correct": 7, "undecided": 0, "error": 0, "limit": 0, "fragile": 0, "wrong": 1}
    assert [case["case"] for case in report["cases"]][-1] == "convolution/strided/float64"
    environments = {case["case"]: case["report"]["environment"]["dtype"] for case in report["cases"]}
    assert environments["Swish/float32/seed1"] == environments["Swish/float32/seed0"] == "float32"
    assert environments["convolution/plain/float64"] == "float64"
    markdown = Path("report.md").read_text(encoding="utf-8")
    page = Path("report.html").read_text(encoding="utf-8")
    for text in (markdown, page):
        assert "8 cases: 7 correct, 1 wrong" in text and "Mean/single" in text
        assert (
            "The gradient of" in text and "--only Mean/wide --jobs 0" in text and "--only Mean/single --jobs 0" in text
        )


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a POSIX signal")
def test_a_killed_campaign_over_workers_goes_on_with_what_is_missing(here: Path) -> None:
    cases = [subject("Square"), subject("Flipped"), subject("crashing"), subject("hanging", "limit = 6.0")]
    (here / "campaign.toml").write_text("".join(cases), encoding="utf-8")
    command = [sys.executable, "-m", "nn_from_scratch", "verify", "--campaign", "campaign.toml", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    results = here / ".nnfs_campaign" / "results.jsonl"
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (results.exists() and results.read_bytes().count(b"\n")):
            time.sleep(0.02)
        assert process.poll() is None
        process.kill()
    with results.open("a", encoding="utf-8") as file:
        file.write('{"case": "cut o')  # as a kill may leave it
    kept = results.read_text(encoding="utf-8").splitlines()[:-1]

    options = ["--resume", "--json", "report.json"]
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == "4 cases: 1 correct, 1 undecided, 1 error, 1 wrong"
    assert "this must not be seen" not in done.stdout
    lines = results.read_text(encoding="utf-8").splitlines()
    assert lines[: len(kept)] == kept and len(lines) == 4
    report = read_results(here / "report.json")["results"]
    assert [(case["case"], case["verdict"]) for case in report["cases"]] == [
        ("Square", "correct"),
        ("Flipped", "wrong"),
        ("crashing", "error"),
        ("hanging", "undecided"),
    ]
    assert report["cases"][2]["message"] == "the process that verified it crashed"
    assert report["cases"][3]["message"] == "the limit of time of this case was reached"
    hanging = report["cases"][3]["text"]
    assert "in hanging" in hanging and len(hanging.splitlines()) < 5


@pytest.mark.parametrize(("fragile", "status"), [("fail", 1), ("report", 0)])
def test_a_campaign_says_whether_what_is_fragile_fails(
    here: Path, capsys: pytest.CaptureFixture[str], fragile: str, status: int
) -> None:
    checks = subject("Square") + subject("Striding").replace('"gradient"', '"gradient", "cotangent_layouts"')
    (here / "campaign.toml").write_text(f'[defaults]\nfragile = "{fragile}"\n{checks}', encoding="utf-8")
    assert main(["verify", "--campaign", "campaign.toml", "--jobs", "0", "--markdown", "report.md"]) == status
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == "2 cases: 1 correct, 1 fragile"
    page = (here / "report.md").read_text(encoding="utf-8")
    assert ("failed" if status else "passed") in page.splitlines()[4]
    assert "with a strided (every second entry) cotangent" in page


@pytest.mark.parametrize(("name", "status"), [("Square", 0), ("nothing", 2), ("Flipped", 1)])
def test_the_worst_case_is_the_exit_status_and_what_is_done_is_not_done_again(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, status: int
) -> None:
    (here / "campaign.toml").write_text(subject("Square", 'name = "first"') + subject(name), encoding="utf-8")
    options = ["verify", "--campaign", "campaign.toml", "--jobs", "0"]
    assert main(options) == status
    before = (here / ".nnfs_campaign" / "results.jsonl").read_bytes()
    assert main([*options, "--resume"]) == status
    assert (here / ".nnfs_campaign" / "results.jsonl").read_bytes() == before
    (here / "subjects.py").write_text(f"{SUBJECTS}\n# changed\n", encoding="utf-8")
    capsys.readouterr()
    assert main([*options, "--resume"]) == 2
    assert "holds another campaign, or one over other sources; leave out --resume" in capsys.readouterr().err
