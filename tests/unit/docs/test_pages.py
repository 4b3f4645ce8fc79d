"""Every code block of every page does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nn_from_scratch
from nn_from_scratch.cli import COMMANDS
from tests.unit.docs.blocks import PAGES, ROOT, blocks_of
from tests.unit.docs.commands import commands_of
from tests.unit.docs.running import run_blocks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(blocks_of(page), tmp_path, pytestconfig)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_shown_on_a_page(command: str) -> None:
    shown = [
        words
        for page in PAGES
        for block in blocks_of(page)
        if block.language == "sh"
        for words in commands_of(block.text)
        if words[:2] == ["nn-from-scratch", command] or words[:4] == ["python", "-m", "nn_from_scratch", command]
    ]
    assert shown, f"write a page under docs/ with a block of `sh` that shows `nn-from-scratch {command}`"


@pytest.mark.parametrize("name", dir(nn_from_scratch))
def test_the_reference_has_every_public_name(name: str) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    homes = set(re.findall(r":: (nn_from_scratch[.\w]*)\n", pages))
    public = getattr(nn_from_scratch, name)
    places = {public.__module__, public.__module__.rpartition(".")[0], f"{public.__module__}.{name}"}
    folder = "nn_from_scratch.engine.convolutions."  # where a name is imported from, if its file is not public
    assert places & homes or f"{folder}{name}" in homes, f"write {name} into docs/reference/engine.md"
