"""What a target does to its process does not decide what `verify` says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nn_from_scratch.cli import contained, main
from nn_from_scratch.cli.contained import Answer, OnStep, OverdueError, run_contained
from nn_from_scratch.errors import ArgumentError, SubjectError

FUNCTION = """
import os, threading
import torch

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        {line}
        return 2 * ctx.saved_tensors[0] * g
"""
CHECK = ["--input", "3", "--checks", "gradient"]


def verify(folder: Path, source: str, *options: str, name: str = "subject.py:Square") -> int:
    (folder / name.partition(":")[0]).write_text(source, encoding="utf-8")
    return main(["verify", str(folder / name), *CHECK, *options])


def test_an_answer_arrives_with_its_steps() -> None:
    def work(on_step: OnStep) -> Answer:
        on_step("one")
        return Answer(3, "text", "")

    assert run_contained(work, limit=60) == Answer(3, "text", "")


def test_an_error_arrives_as_its_sentence() -> None:
    def work(on_step: OnStep) -> Answer:
        raise ArgumentError("x is 3")

    assert run_contained(work, limit=60) == Answer(2, "", "x is 3")


@pytest.mark.parametrize("status", [0, 7])
def test_a_child_that_ends_itself_gives_no_answer(status: int) -> None:
    def work(on_step: OnStep) -> Answer:
        on_step("importing it")
        os._exit(status)

    with pytest.raises(SubjectError, match=f"ended with exit status {status} while importing it"):
        run_contained(work, limit=60)


def test_a_copy_of_the_child_does_not_answer_for_it() -> None:
    def work(on_step: OnStep) -> Answer:
        if os.fork() == 0:
            return Answer(0, "the copy")
        time.sleep(0.5)
        return Answer(1, "the child")

    assert run_contained(work, limit=60) == Answer(1, "the child")


def test_a_step_that_does_not_end_is_ended_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contained, "GRACE", 0.3)
    monkeypatch.setattr(contained, "PATIENCE", 0.05)

    def work(on_step: OnStep) -> Answer:
        on_step("importing it")
        while True:
            pass

    with pytest.raises(OverdueError, match="importing it did not end within the time limit of 0.1 s"):
        run_contained(work, limit=0.1)
    assert "nn-from-scratch: still importing it (at most 0.1 s)\n" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_backward_that_ends_the_process_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    assert verify(tmp_path, FUNCTION.format(line=source)) == 2
    assert "while in the check gradient" in capsys.readouterr().err


def test_an_import_that_ends_the_process_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(tmp_path, "import os\nos._exit(0)\n") == 2
    assert "ended with exit status 0 while importing" in capsys.readouterr().err


@pytest.mark.parametrize("error", ["SystemExit(0)", "KeyboardInterrupt", "GeneratorExit", "BaseException('no')"])
def test_whatever_a_backward_raises_is_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: str
) -> None:
    assert verify(tmp_path, FUNCTION.format(line=f"raise {error}")) == 1
    assert f"raised {error.partition('(')[0]}" in capsys.readouterr().out


def test_a_thread_that_goes_on_does_not_keep_the_command(tmp_path: Path) -> None:
    line = "threading.Thread(target=threading.Event().wait).start()"
    assert verify(tmp_path, FUNCTION.format(line=line)) == 0


def test_a_folder_that_shadows_other_modules_harms_nobody(tmp_path: Path) -> None:
    for name in ("typing", "random", "torch", "numpy", "nn_from_scratch"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong one')\n")
    (tmp_path / "subject.py").write_text(FUNCTION.format(line="import random, typing"))
    words = [sys.executable, "-c", "import sys; from nn_from_scratch.cli import main; sys.exit(main(sys.argv[1:]))"]
    done = subprocess.run(
        [*words, "verify", str(tmp_path / "subject.py:Square"), *CHECK], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    names = "nn_from_scratch, numpy, random, torch, typing"
    assert done.stderr == f"nn-from-scratch: not taken from the target's folder: {names}\n"


def test_a_target_may_be_called_as_a_module_that_others_need(tmp_path: Path) -> None:
    assert verify(tmp_path, FUNCTION.format(line="pass"), name="random.py:Square") == 0


def test_a_limit_that_makes_no_sense_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(tmp_path, FUNCTION.format(line="pass"), "--time-limit", "0") == 2
    assert "time-limit is 0, but a positive number of seconds is expected" in capsys.readouterr().err
