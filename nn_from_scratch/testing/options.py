"""The options of the plugin: on the command line with the prefix `--nnfs-`, some in the ini file with `nnfs_` too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nn_from_scratch.storage import is_replaceable

GPU_MODES = ("auto", "require", "off")
LEVELS = ("quick", "full")
FRAGILE = ("fail", "report")
REPORT_KINDS = {".json": "json", ".md": "markdown", ".html": "html"}

#: The mark of tests that need a GPU; the ini option `nnfs_gpu_mark` names another one.
GPU_MARK = "nnfs_gpu"


def _one_of(values: tuple[str, ...]) -> Callable[[str], str]:
    def converted(text: str) -> str:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)} is expected")
        return text

    return converted


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[_one_of(("true", "false"))(text.strip().lower())]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("a whole number is expected") from None


#: What the ini file may say as well: the default, and how its text is read.
_SETTINGS: dict[str, tuple[Any, Callable[[str], Any]]] = {
    "seed": (0, _whole),
    "level": ("quick", _one_of(LEVELS)),
    "checks": (None, str),
    "fragile": ("fail", _one_of(FRAGILE)),
    "strict": (False, _truth),
}


def add_options(parser: pytest.Parser) -> None:
    """Add the options to the command line and to the ini file."""
    group = parser.getgroup("nn_from_scratch", "verification of backward passes")
    group.addoption(
        "--nnfs-gpu",
        choices=GPU_MODES,
        help="tests that need a CUDA device where there is none: auto skips them, require fails them, off always skips "
        "them (default: the environment variable NNFS_GPU, else auto)",
    )
    group.addoption("--nnfs-seed", type=int, metavar="N", help="seed of everything that gradcheck draws (default: 0)")
    group.addoption(
        "--nnfs-level",
        choices=LEVELS,
        help="quick, or full: more directions, complex step, whole numerical gradients (default: quick)",
    )
    group.addoption(
        "--nnfs-checks",
        metavar="NAMES",
        help="run these checks alone, as in gradient,determinism; or all but some, as in -low_precision,-copies",
    )
    group.addoption("--nnfs-list", action="store_true", help="list the checks, and what each asks, and run no test")
    group.addoption(
        "--nnfs-fragile",
        choices=FRAGILE,
        help="whether a test fails for a gradient that is right at its inputs and silently wrong elsewhere (default: "
        "fail)",
    )
    group.addoption(
        "--nnfs-strict",
        action="store_true",
        default=None,
        help="fail a test also for what the backward does not take, such as an empty batch",
    )
    group.addoption(
        "--nnfs-report",
        metavar="PATH",
        help="write every gradcheck report to this file: a page (.html), Markdown (.md) or the results (.json)",
    )
    group.addoption(
        "--nnfs-bench-strict",
        action="store_true",
        help="fail a test whose ab(...).assert_not_slower() stays undecided, instead of warning",
    )
    for name, (default, _) in _SETTINGS.items():
        said = "none" if default is None else str(default).lower()
        parser.addini(f"nnfs_{name}", f"what --nnfs-{name} says where it is not given (default: {said})", default=None)
    parser.addini("nnfs_gpu_mark", f"the mark of tests that need a CUDA device (default: {GPU_MARK})", default=GPU_MARK)
    parser.addini(
        "nnfs_benchmark_timer",
        "time pytest-benchmark's tests by a clock that waits for the GPU, and note GPU and precision in its results",
        type="bool",
        default=False,
    )


def setting(config: pytest.Config, name: str) -> Any:
    """What the command line says, else the ini file, else the default.

    Args:
        name: one of seed, level, checks, fragile and strict.

    Raises:
        pytest.UsageError: the ini file has a value that makes no sense.
    """
    given = config.getoption(f"nnfs_{name}")
    if given is not None:
        return given
    default, read = _SETTINGS[name]
    text = config.getini(f"nnfs_{name}")
    if text is None:
        return default
    try:
        return read(str(text))
    except ValueError as error:
        raise pytest.UsageError(f"the ini option nnfs_{name} is {text!r}, but {error}") from None


def selected_checks(config: pytest.Config) -> list[str] | None:
    """The names of the checks to run or, with a minus sign, to leave out; None for all."""
    given: str | None = setting(config, "checks")
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


def gpu_mode(config: pytest.Config) -> str:
    """`auto`, `require` or `off`.

    Raises:
        pytest.UsageError: the environment variable has another value.
    """
    given: str | None = config.getoption("--nnfs-gpu")
    mode = given if given is not None else os.environ.get("NNFS_GPU", "auto")
    if mode not in GPU_MODES:
        raise pytest.UsageError(
            f"the environment variable NNFS_GPU is {mode!r}, but one of {', '.join(GPU_MODES)} is expected"
        )
    return mode


def refuse_nonsense(config: pytest.Config) -> None:
    """Refuse values that make no sense, before anything runs.

    Raises:
        pytest.UsageError: there is one.
    """
    gpu_mode(config)
    for name in _SETTINGS:
        setting(config, name)
    path = config.getoption("--nnfs-report")
    if path is not None and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise pytest.UsageError(f"--nnfs-report is {path!r}, but a file in an existing folder is expected")
    if path is not None and Path(path).suffix not in REPORT_KINDS:
        raise pytest.UsageError(f"--nnfs-report is {path!r}, but a name that ends in .json, .md or .html is expected")
    if path is not None and not is_replaceable(Path(path)):
        raise pytest.UsageError(
            f"--nnfs-report is {path!r}, a file that this plugin did not write: name another, or remove it first"
        )
    names = selected_checks(config)
    if names is None:
        return
    what = "--nnfs-checks" if config.getoption("--nnfs-checks") is not None else "the ini option nnfs_checks"
    if len({name.startswith("-") for name in names}) > 1:
        raise pytest.UsageError(
            f"{what} is {setting(config, 'checks')!r}, which names checks to run and checks to leave out; "
            "do one or the other"
        )
    from nn_from_scratch.verify import check_names
    from nn_from_scratch.verify.catalogue import CHECKS

    unknown = [name for name in names if name.removeprefix("-") not in {*check_names(), *CHECKS}]
    if unknown:
        raise pytest.UsageError(f"{what} names {unknown[0]!r}, which is not a check; pytest --nnfs-list lists them")


def list_checks() -> str:
    """A line for each check: its name, and the first sentence of what it asks."""
    from nn_from_scratch.verify import check_descriptions

    found = check_descriptions()
    width = max(map(len, found))
    return "".join(f"{name:{width}}  {text}\n" for name, text in found.items())
