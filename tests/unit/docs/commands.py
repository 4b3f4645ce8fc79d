"""The shell lines of a page: whether each is a command that there is, with options that it has."""

from __future__ import annotations

import configparser
import contextlib
import importlib.util
import io
import itertools
import re
import shlex

import pytest

from nn_from_scratch.cli import build_parser
from tests.unit.docs.blocks import ROOT

#: Programs that are not ours, whose arguments nothing here can judge.
FOREIGN = {"git", "cd", "source", ".", "export", "mkdir", "ssh", "nvidia-smi", "python3"}


def commands_of(text: str) -> list[list[str]]:
    """The commands of a shell text, as lists of words, without comments and without variables set before them."""
    lines = text.replace("\\\n", " ").splitlines()
    split = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    named = [[word for i, word in enumerate(words) if i or "=" not in word] for words in split]
    return [words for words in named if words]


def parse_command(words: list[str], config: pytest.Config) -> None:
    """Do nothing for a command that would be understood.

    Raises:
        AssertionError: it would not; the message says why.
    """
    program, *rest = words
    if program == "nn-from-scratch":
        _parse_ours(rest)
    elif program == "pytest":
        _parse_pytest(rest, config)
    elif program == "tox":
        _parse_tox(rest)
    elif program == "torchrun":
        _parse_torchrun(rest)
    elif program == "python" and rest[:1] == ["-m"]:
        _parse_module(rest[1:], config)
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), f"there is no {rest[0]}"
    else:
        assert program in FOREIGN, f"nobody here knows the command {program!r}"


def _parse_ours(arguments: list[str]) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            build_parser().parse_args(arguments)
    except SystemExit as request:
        if request.code:
            raise AssertionError(said.getvalue()) from None


def _parse_module(arguments: list[str], config: pytest.Config) -> None:
    module, *rest = arguments
    if module == "nn_from_scratch":
        _parse_ours(rest)
    elif module == "pytest":
        _parse_pytest(rest, config)
    elif module == "pip":
        _parse_pip(rest)
    else:
        assert importlib.util.find_spec(module) is not None, f"there is no module {module}"


def _parse_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install", arguments
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for place, word in enumerate(arguments):
        if word in ("-c", "-r"):
            assert (ROOT / arguments[place + 1]).is_file(), f"there is no {arguments[place + 1]}"
        extras = re.fullmatch(r"(?:\.|nn_from_scratch)\[(.+)\]", word)
        for extra in extras[1].split(",") if extras else ():
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"there is no extra {extra}"


def _parse_tox(arguments: list[str]) -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "tox.ini", encoding="utf-8")
    labels = dict(line.split(" = ") for line in settings["tox"]["labels"].splitlines() if line)
    named = ", ".join([settings["tox"]["env_list"], *labels.values()]).split(", ")
    environments = {*named, *(section.removeprefix("testenv:") for section in settings.sections())}
    for option, value in itertools.pairwise(arguments):
        if option == "--":
            break
        known = {"-e": environments, "-m": set(labels)}.get(option)
        assert known is None or set(value.split(",")) <= known, f"tox knows no {value}"


def _parse_pytest(arguments: list[str], config: pytest.Config) -> None:
    known = {name.replace("_", "") for name in vars(config.option)}
    for word in arguments:
        name = word.split("=")[0]
        if name.startswith("--"):
            # Some options are kept under a shorter name than their own: --junit-xml under xmlpath.
            kept = name[2:].replace("-", "")
            assert kept in known | {"junitxml", "rootdir"}, f"pytest has no option {name}"
        elif word.startswith("tests/"):
            assert (ROOT / word.split("::")[0]).exists(), f"there is no {word}"


def _parse_torchrun(arguments: list[str]) -> None:
    place = arguments.index("-m")
    assert arguments[place + 1] == "nn_from_scratch", "torchrun is shown with this package alone"
    _parse_ours(arguments[place + 2 :])
