"""Mutants by edits of the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.mutation.functions import find_functions
from nn_from_scratch.mutation.mutant import Mutant
from nn_from_scratch.mutation.source import edited, source_mutants


def mutants_of(tmp_path: Path, body: str, *, head: str = "def backward(g, x):") -> dict[str, list[str]]:
    """The edited lines by operator."""
    path = tmp_path / "subject.py"
    path.write_text(f"{head}\n    {body}\n", encoding="utf-8")
    found: dict[str, list[str]] = {}
    for mutant in all_mutants(path):
        after = edited(mutant, path.read_bytes()).decode().splitlines()
        found.setdefault(mutant.operator, []).append("\n".join(after[1:]).strip())
    return found


def all_mutants(path: Path) -> list[Mutant]:
    return [mutant for function in find_functions([str(path)]) for mutant in source_mutants(function)]


@pytest.mark.parametrize(
    ("body", "operator", "expected"),
    [
        ("return g + x", "operator", ["return g - x"]),
        ("return g * x", "operator", ["return g / x"]),
        ("return g + x", "drop term", ["return g", "return x"]),
        ("return g - x", "drop term", ["return g", "return (-x)"]),
        ("return (g - 1) * x", "drop factor", ["return (g - 1)", "return x"]),
        ("return g / x", "drop factor", ["return g"]),
        ("return g @ x.T", "swap factors", ["return x.T @ g"]),
        ("return g > x", "comparison", ["return g >= x", "return g <= x"]),
        ("return g is x", "comparison", ["return g is not x"]),
        ("return g and x", "condition", ["return (g or x)"]),
        ("return not g", "condition", ["return g"]),
        ("return -g", "sign", ["return g"]),
        ("return g[2]", "constant", ["return g[3]", "return g[1]"]),
        ("return f(g, keepdim=True)", "constant", ["return f(g, keepdim=False)"]),
        ("return 0.5 * g", "constant", ["return 1.0 * g"]),
        ("return g if x else 2", "branch", ["return g", "return 2"]),
        ("return g.sum(x)", "neighbour", ["return g.mean(x)"]),
        ("return f(g, x)", "swap arguments", ["return f(x, g)"]),
        ("return f(g, dim=x, keepdim=g)", "drop argument", ["return f(g, keepdim=g)", "return f(g, dim=x)"]),
        ("g += x; return g", "assign", ["g = x; return g"]),
        ("g.mul_(x); return g", "drop statement", ["pass; return g"]),
        ("g[0] = x; return g", "drop statement", ["pass; return g"]),
    ],
)
def test_an_operator_makes_these_edits(tmp_path: Path, body: str, operator: str, expected: list[str]) -> None:
    assert mutants_of(tmp_path, body)[operator] == expected


def test_conditions_are_decided_both_ways(tmp_path: Path) -> None:
    found = mutants_of(tmp_path, "if x:\n        return g\n    return 2 * g")
    assert [line.splitlines()[0] for line in found["branch"]] == ["if False:", "if True:"]


@pytest.mark.parametrize(
    "body",
    [
        'raise ValueError("x is " + g)',
        "assert g > 0",
        "return f'{g + x}'",
        '"""Doc."""',
        "y: Tensor[1 + 1] = g",
        "y = zip(g, strict=True)",
    ],
)
def test_what_computes_nothing_is_left_alone(tmp_path: Path, body: str) -> None:
    assert mutants_of(tmp_path, f"{body}\n    return g") == {}


def test_an_edit_that_the_compiler_does_not_see_is_left_out(tmp_path: Path) -> None:
    # 1 + 1 and 1 * 2 are folded to one constant; "drop factor" of 2 ** 1 gives 2, the same again.
    assert "drop factor" not in mutants_of(tmp_path, "return 2 ** 1")


def test_bytes_beyond_ascii_do_not_shift_the_edit(tmp_path: Path) -> None:
    assert mutants_of(tmp_path, 'σ = "∂ℓ"; return g + x')["operator"] == ['σ = "∂ℓ"; return g - x']


def test_ids_are_unique_and_diffs_show_the_line(tmp_path: Path) -> None:
    path = tmp_path / "subject.py"
    path.write_text("# a\n# b\n\ndef backward(g, x):\n    y = g + x\n    return y + x\n", encoding="utf-8")
    mutants = all_mutants(path)
    assert len({mutant.id for mutant in mutants}) == len(mutants) >= 6
    first = next(mutant for mutant in mutants if mutant.operator == "operator")
    assert first.id == f"{path}:backward/operator/0" and first.line == 5
    assert "-    y = g + x\n+    y = g - x" in first.diff


def test_a_property_and_its_setter_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "subject.py"
    path.write_text(
        "class A:\n    @property\n    def grad(self):\n        return self.a + 1\n"
        "    @grad.setter\n    def grad(self, g):\n        self.a = g - 1\n",
        encoding="utf-8",
    )
    mutants = [m for f in find_functions([f"{path}:A.grad"]) for m in source_mutants(f)]
    assert {mutant.line for mutant in mutants} == {4, 7}


def test_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "subject.py"
    path.write_text("def backward(g):\n    return -g\n", encoding="utf-8")
    (function,) = find_functions([str(path)])
    path.write_text("\n\ndef backward(g):\n    return -g\n", encoding="utf-8")
    with pytest.raises(ArgumentError, match="has changed: backward is no longer in line 1"):
        source_mutants(function)


def test_a_mutant_knows_its_statement(tmp_path: Path) -> None:
    path = tmp_path / "subject.py"
    path.write_text(
        "# a\n\n@cache\ndef backward(g, x):\n    y = f(\n        g + x,\n    )\n    if (y and\n            x):\n"
        "        try:\n            y = y * x\n        except E:\n            y = y / x\n    def inner():\n"
        "        return y - x\n    return inner()\n",
        encoding="utf-8",
    )
    statements = {mutant.operator + mutant.old: mutant.statement for mutant in all_mutants(path)}
    assert statements["operatorg + x"] == (2, 4), "all lines of the call, the decorator's being 0"
    assert statements["conditiony and\n            x"] == (5, 6), "the head of the if"
    assert statements["operatory * x"] == (8, 8) and statements["operatory / x"] == (10, 10)
    assert statements["operatory - x"] == (11, 12), "the statement that makes the inner function"
