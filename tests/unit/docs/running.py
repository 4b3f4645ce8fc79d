"""Runs a page: its Python in one namespace, its commands in this process, in a folder of its own."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import runpy
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nn_from_scratch.cli import main
from tests.unit.docs.blocks import Block
from tests.unit.docs.commands import commands_of, parse_command
from tests.unit.docs.outputs import difference

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_QUIET = ("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:cov", "-p", "no:benchmark")


class PageError(AssertionError):
    """A block of a page does not do what the page says."""


def run_blocks(blocks: list[Block], folder: Path, config: pytest.Config) -> None:
    """Run the blocks of one page in their order.

    Args:
        blocks: of one page.
        folder: an empty folder, in which files are written and commands run.
        config: of the test session.

    Raises:
        PageError: a block fails, prints something else than the page shows, or says not how it is to be tested.
    """
    with _own_modules(folder):
        page = _Page(folder, config)
        for block in blocks:
            with _blamed(block):
                page.take(block)


class _Page:
    def __init__(self, folder: Path, config: pytest.Config) -> None:
        self._folder = folder
        self._config = config
        self._printed: str | None = None
        self._module = types.ModuleType("page")
        sys.modules["page"] = self._module

    def take(self, block: Block) -> None:
        """Do with a block what it says, or what its language says."""
        if block.verb == "not run":
            if len(block.argument) < 10:
                raise PageError(f"{block.place}: say why it is not run")
            self._printed = None
        elif block.verb == "file":
            (self._folder / block.argument).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / block.argument).write_text(block.text, encoding="utf-8")
            importlib.invalidate_caches()  # the folder may have been looked through already
        elif block.verb == "output":
            if self._printed is None:
                raise PageError(f"{block.place}: nothing was run before this output")
            found = difference(block.text, self._printed)
            if found is not None:
                raise PageError(f"{block.place}: printed was something else:\n{found}")
        elif block.language == "python":
            self._printed = self._run_python(block)
        elif block.language == "sh":
            self._printed = None
            if block.verb == "run":
                self._printed = self._run_shell(block)
            else:
                self._parse_shell(block)
        elif block.language in ("toml", "yaml", "json"):
            {"toml": tomllib.loads, "yaml": yaml.safe_load, "json": json.loads}[block.language](block.text)
        else:
            raise PageError(f"{block.place}: a block of {block.language or 'no language'} needs a comment `test: ...`")

    def _run_python(self, block: Block) -> str:
        source = "\n" * (block.line - 1) + block.text
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(source, str(block.page), "exec"), vars(self._module))
        tests = [
            node.name for node in ast.parse(block.text).body if isinstance(node, ast.FunctionDef) and _is_test(node)
        ]
        if not tests:
            return said.getvalue()
        path = self._folder / f"test_line_{block.line}.py"
        path.write_text(f"from page import {', '.join(tests)}\n", encoding="utf-8")
        status, printed = _run_pytest([str(path), "-m", "not gpu"])
        if status == pytest.ExitCode.NO_TESTS_COLLECTED and "mark.gpu" in block.text:
            status = 0  # all of them are for a GPU; that they can be collected is what is looked at here
        if status != (1 if block.verb == "fails" else 0):
            raise PageError(f"{block.place}: pytest ended with {status}:\n{printed}")
        if block.verb == "fails" and " passed" in printed.splitlines()[-1]:
            raise PageError(f"{block.place}: some of its tests pass:\n{printed}")
        return said.getvalue() + printed

    def _run_shell(self, block: Block) -> str:
        expected = int(block.argument.removeprefix("status")) if block.argument else 0
        printed = ""
        for words in commands_of(block.text):
            status, said = _run_command(words)
            printed += said
            if status != expected:
                raise PageError(f"{block.place}: {' '.join(words)} ended with {status}, not {expected}:\n{said}")
        return printed

    def _parse_shell(self, block: Block) -> None:
        for words in commands_of(block.text):
            with _blamed(block, " ".join(words)):
                parse_command(words, self._config)


def _is_test(node: ast.FunctionDef) -> bool:
    # Without arguments, or with drawn ones alone, a page may call it itself; asked for are those with fixtures.
    fixtures = {"gradcheck", "ab", "benchmark", "tmp_path"}
    return node.name.startswith("test_") and any(argument.arg in fixtures for argument in node.args.args)


@contextlib.contextmanager
def _blamed(block: Block, what: str = "") -> Iterator[None]:
    """Say of whatever fails within it where it stands."""
    try:
        yield
    except PageError:
        raise
    except (Exception, SystemExit) as error:
        raise PageError(f"{block.place}: {what or type(error).__name__}: {error}") from error


def _run_command(words: list[str]) -> tuple[int, str]:
    if words[0] == "pytest":
        return _run_pytest(words[1:])
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        if words[0] == "nn-from-scratch":
            return main(words[1:]), said.getvalue()
        if words[0] == "python":
            argv, sys.argv = sys.argv, words[1:]
            try:
                runpy.run_path(words[1], run_name="__main__")
            finally:
                sys.argv = argv
            return 0, said.getvalue()
    raise PageError(f"{words[0]} cannot be run here; leave the comment `test: run` out")


def _run_pytest(arguments: list[str]) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pytest.main([*_QUIET, "--rootdir=.", "-q", *arguments])
    return int(status), said.getvalue()


@contextlib.contextmanager
def _own_modules(folder: Path) -> Iterator[None]:
    """Afterwards no module of the page is left, and the search path is as it was."""
    path = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if name == "page" or str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
