"""The workflow file parses, and every command in it is one that there is."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.unit.docs.blocks import ROOT
from tests.unit.docs.commands import commands_of, parse_command

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    return dict(found["jobs"])


def commands(job: dict[str, Any]) -> list[list[str]]:
    """The commands of a job, with a word in the place of each expression."""
    texts = [re.sub(r"\$\{\{.*?\}\}", "expression", step["run"]) for step in job["steps"] if "run" in step]
    return [words for text in texts for words in commands_of(text)]


@pytest.mark.parametrize("name", ["tests", "gate"])
def test_the_commands_of_the_workflow_are_understood(name: str, pytestconfig: pytest.Config) -> None:
    found = commands(jobs()[name])
    assert found
    for words in found:
        parse_command(words, pytestconfig)


def test_the_gate_compares_a_pull_request_with_its_base_and_reports() -> None:
    gate = jobs()["gate"]
    assert gate["if"] == "github.event_name == 'pull_request'"
    checkout = next(step for step in gate["steps"] if step.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"]["fetch-depth"] == 0  # a shallow clone has no base
    runs = [step["run"] for step in gate["steps"] if "run" in step]
    (compare,) = [run for run in runs if " bench compare " in run]
    assert "--base origin/${{ github.base_ref }}" in compare and "--json gate.json" in compare
    summary = next(step for step in gate["steps"] if " bench report " in step.get("run", ""))
    assert "gate.json" in summary["run"]
    assert "!cancelled()" in summary["if"]  # also, and above all, when the gate has failed


def test_the_gate_does_not_hide_its_exit_status() -> None:
    for job in jobs().values():
        for step in job["steps"]:
            assert "continue-on-error" not in step
            assert "||" not in step.get("run", "")


def test_there_is_no_other_workflow_that_nobody_looks_at() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml"]
