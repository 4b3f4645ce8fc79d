"""Every number of the verifier has a name and a word of where it comes from, in one place of its folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from nn_from_scratch import verify
from tests.bench.constant_sensitivity import changes, varied

FOLDER = Path(verify.__file__).parent
FOLDERS = [FOLDER, FOLDER / "contracts", FOLDER / "derivative"]
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*.py")) if path.name != "constants.py"]
# What halves and doubles, and the ends of shares.
PLAIN = {0.0, 0.5, 1.0, 2.0}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_number_that_is_not_part_of_a_formula_stands_among_the_constants(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            assert node.value in PLAIN, f"{node.value} in line {node.lineno}"
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        constants = [n.value for n in ast.walk(value) if isinstance(n, ast.Constant)] if value is not None else []
        numbers = [c for c in constants if isinstance(c, int | float) and not isinstance(c, bool)]
        assert not numbers, f"line {node.lineno}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_constant_says_where_it_comes_from(folder: Path) -> None:
    explained = False
    for line in (folder / "constants.py").read_text(encoding="utf-8").splitlines():
        name = re.match("[A-Z][A-Z0-9_]* = ", line)
        assert not name or explained or "  # " in line, line
        # One sentence may explain two numbers.
        explained = line.startswith("# ") or (explained and bool(name))


def test_numbers_in_a_constant_are_varied_and_words_are_not() -> None:
    assert (varied(3, 0.25), varied(3, 4.0), varied(0.1, 4.0), varied("even", 4.0)) == (1, 6, 0.4, "even")
    assert varied((("even", 0.5), ("relative", 1.0)), 0.25) == (("even", 0.125), ("relative", 0.25))
    assert varied({"quick": 10.0}, 0.25) == {"quick": 2.5}


def test_changes_of_verdicts_are_counted_by_what_they_mean() -> None:
    before = {"right a": "correct", "right b": "correct", "right c": "correct", "fault d": "right", "fault e": "right"}
    after = {"right a": "wrong", "right b": "undecided", "right c": "correct", "fault d": "missed", "fault e": "wrong"}
    assert changes(before, after) == {"false alarms": 1, "undecided": 1, "missed": 1, "wrong names": 1}
