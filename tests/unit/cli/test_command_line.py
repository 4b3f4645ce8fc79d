from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from nn_from_scratch import __version__
from nn_from_scratch.cli import COMMANDS, train

Command = Callable[..., tuple[int, str, str]]


def test_the_help_names_every_command_with_examples(command: Command) -> None:
    status, text, _ = command("--help")
    assert status == 0
    for name in COMMANDS:
        assert f"nn-from-scratch {name} " in text
    assert "Exit status" in text


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "train",
            "--epochs --batch-size --optimizer --lr --momentum --seed --device --conv --threads --data --noise "
            "--train-size --validation-size --out --resume --json",
        ),
        ("denoise", "--out --model --device"),
    ],
)
def test_the_help_of_a_command_names_every_option_with_examples(command: Command, name: str, options: str) -> None:
    status, text, _ = command(name, "--help")
    assert status == 0
    for option in options.split():
        assert f"{option} " in text
    assert f"examples:\n  nn-from-scratch {name}" in text
    assert "%" not in text.replace("100%", "")


def test_the_version(command: Command) -> None:
    assert command("--version") == (0, f"nn-from-scratch {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fly",), "argument COMMAND: invalid choice: 'fly'"),
        (
            ("train", "--epochs", "many"),
            "argument --epochs: invalid int value: 'many' (see nn-from-scratch train --help)",
        ),
        (("train", "--optimizer", "lion"), "argument --optimizer: invalid choice: 'lion'"),
        (("train", "--speed", "9"), "unrecognized arguments: --speed 9"),
        (("denoise",), "the following arguments are required: IMAGE (see nn-from-scratch denoise --help)"),
    ],
)
def test_wrong_usage_is_one_sentence(refused: Callable[..., str], arguments: tuple[str, ...], sentence: str) -> None:
    assert refused(*arguments).startswith(sentence)


def test_help_and_wrong_settings_are_answered_without_torch() -> None:
    program = (
        "import sys\n"
        "from nn_from_scratch.cli import main\n"
        "assert main(['train', '--help']) == 0\n"
        "assert main(['train', '--epochs', '0']) == 2\n"
        "assert main(['denoise', 'a/x.png', 'b/x.png', '-o', 'c']) == 2\n"
        "sys.exit(bool({'torch', 'numpy', 'rich', 'matplotlib', 'skimage'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_package_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nn_from_scratch", "train", "--lr", "nan"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "nn-from-scratch: error: lr is nan, but a finite number above 0 is expected\n"


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a"),
            2,
            "nn-from-scratch: error: 'runs/a': No space left on device\n",
        ),
        (OSError("strange"), 2, "nn-from-scratch: error: strange\n"),
        (KeyboardInterrupt(), 130, "nn-from-scratch: interrupted\n"),
    ],
)
def test_what_no_command_foresees_is_still_one_sentence(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, text: str
) -> None:
    def fail(*_: Any) -> ModuleType:
        raise error

    monkeypatch.setattr(train, "new_settings", fail)
    assert command("train") == (status, "", text)


def test_the_bare_command_prints_the_help(command: Command) -> None:
    status, text, error = command()
    assert (status, error) == (0, "")
    assert text.startswith("usage: nn-from-scratch") and "commands:" in text
