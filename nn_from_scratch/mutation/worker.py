"""A worker process: `python -m nn_from_scratch.mutation.worker`, with the first line of its input as its settings."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from nn_from_scratch.mutation.functions import Function
from nn_from_scratch.mutation.session import Session

__all__ = ["main", "pytest_arguments"]


def main() -> int:
    """Serve until the input ends; give pytest's exit status."""
    # What tests and pytest print must not meet the answers, so those go out over a descriptor of their own.
    jobs = os.fdopen(os.dup(0), "r", encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    settings = json.loads(jobs.readline())
    if "" not in sys.path:
        sys.path.insert(0, "")
    functions = [
        Function(name, Path(path), qualname, int(line)) for name, path, qualname, line in settings["functions"]
    ]
    session = Session(
        jobs,
        answers,
        groups=settings["groups"],
        functions=functions,
        modules=sorted({f.module for f in functions if not f.module.endswith(".py")}),
    )
    arguments = pytest_arguments([*settings["groups"].values()], settings["pytest_args"])
    return int(pytest.main(arguments, plugins=[session]))


def pytest_arguments(paths: list[str], extra: list[str]) -> list[str]:
    """One process, one order, nothing written: what other plugins would do differently is switched off."""
    # This worker is part of a package that holds a plugin too, so it is imported before pytest looks at it.
    imported = "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"
    arguments = ["-q", "--tb=native", "-p", "no:cacheprovider", "-W", imported, *(path for path in paths if path)]
    if importlib.util.find_spec("xdist"):
        arguments.append("-n0")
    if importlib.util.find_spec("pytest_randomly"):
        arguments += ["--randomly-dont-reorganize", "--randomly-seed=0"]
    if importlib.util.find_spec("pytest_cov"):
        arguments.append("--no-cov")
    return [*arguments, *extra]


if __name__ == "__main__":
    sys.exit(main())
