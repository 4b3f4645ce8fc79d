from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nn_from_scratch.bench import processes
from nn_from_scratch.cli.bench_tables import chosen_rows
from nn_from_scratch.report.results_file import envelope
from tests.unit.bench.simulation import Machine, SimulatedSide

Command = Callable[..., tuple[int, str, str]]

#: A project without torch, so that its processes start at once.
SUITE = """
from package import work

BENCHMARKS = {{{names}}}
"""
WORK = """
def work():
    def run():
        total = 0
        for number in range({size}):
            total += number
        return total
    return run
"""


def git(*arguments: str) -> None:
    identity = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for role in ("AUTHOR", "COMMITTER"):
        identity |= {f"GIT_{role}_NAME": "Somebody", f"GIT_{role}_EMAIL": "somebody@example.org"}
    subprocess.run(["git", *arguments], check=True, capture_output=True, env={**os.environ, **identity})


def write(size: int, *names: str) -> None:
    Path("package.py").write_text(WORK.format(size=size), encoding="utf-8")
    listed = ", ".join(f"{name!r}: work" for name in names)
    Path("benchmarks.py").write_text(SUITE.format(names=listed), encoding="utf-8")


@pytest.fixture
def project(command: Command) -> Command:
    """The command line in a repository with one commit."""
    git("init", "-b", "main")
    write(20_000, "sum", "old")
    git("add", ".")
    git("commit", "-m", "first")
    return command


@pytest.fixture
def simulated(project: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the sides of a comparison be simulated ones, with these benchmarks."""

    def arrange(head: dict[str, Any], base: dict[str, Any], *, jitter: float = 0.01) -> None:
        machine = Machine(0, jitter=jitter)

        class Side(SimulatedSide):
            def __init__(self, name: str, root: Path, suite: Path, threads: int) -> None:
                ours = "base" not in name
                super().__init__(machine, head if ours else base)

            def names(self) -> list[str]:
                return [*self.seconds]

        monkeypatch.setattr(processes, "Side", Side)
        monkeypatch.setattr(
            "nn_from_scratch.cli.bench._names", lambda side, suite, only: side.names() if only is None else []
        )

    return arrange


def test_two_commits_are_told_apart_by_real_processes(project: Command) -> None:
    write(40_000, "sum", "new")
    for _ in range(3):  # on a busy machine a run may end without a verdict, and says so
        status, text, error = project("bench", "compare", "--base", "HEAD", "--time-cap", "20", "--json", "found.json")
        if "REGRESSED: sum  " in text:
            break
    assert (status, error) == (1, "")
    assert "REGRESSED: sum  " in text
    assert "REMOVED: old (allow it with --allow-removed)" in text
    assert "new, compared with nothing: new" in text
    results = json.loads(Path("found.json").read_text(encoding="utf-8"))["results"]
    (outcome,) = results["outcomes"]
    assert outcome["interval"][1] > 1
    assert len(outcome["seconds"]["candidate"]) >= 6
    worktrees = subprocess.check_output(["git", "worktree", "list"], text=True)
    assert len(worktrees.splitlines()) == 1  # the base's is gone again
    files = ("--markdown", "found.md", "--html", "found.html")
    assert project("bench", "report", "found.json", *files) == (0, "", "")
    text, page = (Path(name).read_text(encoding="utf-8") for name in ("found.md", "found.html"))
    mark, _, text = text.partition("\n\n")
    assert mark == "<!-- written by nn-from-scratch -->"
    assert text.startswith(
        "# Benchmarks compared\n\n**❌ failed**: 1 REGRESSED (sum); removed without permission: old."
    )
    assert page.count("<svg") == 4 and "bench compare --base HEAD --time-cap 20 --only sum</code>" in page
    assert project("bench", "report", "found.json")[1] == text


@pytest.mark.parametrize(
    ("head", "base", "options", "status"),
    [
        ({"a": 1e-3}, {"a": 1e-3}, (), 0),
        ({"a": 1.2e-3}, {"a": 1e-3}, (), 1),
        ({}, {"a": 1e-3}, (), 1),
        ({"b": 1e-3}, {"b": 1e-3, "a": 1e-3}, ("--allow-removed", "a"), 0),
        ({"new": 1e-3}, {}, (), 3),
        ({"a": 1e-3}, {"a": "AttributeError: no"}, (), 3),
    ],
)
def test_exit_statuses(
    simulated: Callable[..., None],
    project: Command,
    head: dict[str, Any],
    base: dict[str, Any],
    options: tuple[str, ...],
    status: int,
) -> None:
    simulated(head, base)
    assert project("bench", "compare", "--base", "HEAD", *options)[0] == status


def test_undecided_fails_under_strict_alone(simulated: Callable[..., None], project: Command) -> None:
    simulated({"a": 1.05e-3}, {"a": 1e-3}, jitter=0.3)
    options = ("bench", "compare", "--base", "HEAD", "--time-cap", "1e-9")
    status, text, _ = project(*options)
    assert status == 0 and "INCONCLUSIVE: a" in text and text.endswith("Passed: 1 INCONCLUSIVE.\n")
    status, text, _ = project(*options, "--strict")
    assert status == 2 and text.endswith("Undecided: 1 INCONCLUSIVE.\n")


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("compare", "--base", "nowhere"), 3, "base is 'nowhere', but there is no such commit in "),
        (("compare",), 4, "the following arguments are required: --base"),
        (("compare", "--base", "HEAD", "--processes", "2"), 4, "processes is 2, but at least 6 a side are expected"),
        (("compare", "--base", "HEAD", "--tolerance", "-1"), 4, "tolerance is -1.0, but a share such as 0.05"),
        (("compare", "--base", "HEAD", "--benchmarks", "no.py"), 4, "benchmarks is 'no.py', but there is no such file"),
        (("run",), 4, "the following arguments are required: WHAT"),
        (("run", "nothing"), 4, "argument WHAT: invalid choice: 'nothing'"),
        (("run", "table1", "--threads", "0"), 4, "threads is 0, but at least 1 is expected"),
        (("run", "table1", "--only", "Adm*"), 4, "only is 'Adm*', which fits none of: SGD: unfold; "),
        (("report", "no.json"), 4, "results is 'no.json', but there is no such file"),
        ((), 4, "the following arguments are required: ACTION"),
    ],
)
def test_what_is_refused(project: Command, arguments: tuple[str, ...], status: int, sentence: str) -> None:
    found, _, error = project("bench", *arguments)
    assert found == status
    assert error.startswith(f"nn-from-scratch: error: {sentence}")
    assert len(error.splitlines()) == 1


def test_rows_of_table_one_are_chosen_beside_eager_pytorch() -> None:
    rows, optimizers = chosen_rows("Adam: auto")
    assert ([row.name for row in rows], optimizers) == (["auto", "PyTorch eager"], ["Adam"])
    rows, optimizers = chosen_rows("*: PyTorch eager")
    assert ([row.name for row in rows], optimizers) == (["PyTorch eager"], ["SGD", "SGD with momentum", "Adam"])
    assert len(chosen_rows(None)[0]) > 4


def test_a_report_of_other_results_is_refused(command: Command) -> None:
    Path("other.json").write_text(json.dumps(envelope("benchmark", {"what": "novel"})), encoding="utf-8")
    status, _, error = command("bench", "report", "other.json", "--html", "page.html")
    assert status == 4 and "the results hold what = 'novel', but one of comparison, table1" in error
    assert not Path("page.html").exists()


def test_outside_of_a_repository_no_commit_can_be_compared(command: Command) -> None:
    status, _, error = command("bench", "compare", "--base", "HEAD")
    assert status == 3 and "git rev-parse fails in" in error


def test_allowing_a_benchmark_that_nobody_has_is_refused(simulated: Callable[..., None], project: Command) -> None:
    simulated({"a": 1e-3}, {"a": 1e-3})
    status, _, error = project("bench", "compare", "--base", "HEAD", "--allow-removed", "b")
    assert status == 4 and "allow_removed names 'b', but the benchmarks are a" in error


def test_the_help_tells_the_exit_statuses(command: Command) -> None:
    status, text, _ = command("bench", "--help")
    assert status == 0 and "Exit status: 0 fine, 1 a regression" in text
