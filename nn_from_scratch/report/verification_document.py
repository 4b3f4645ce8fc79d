"""The document of verifications: of one subject, of a whole test session."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nn_from_scratch.report.document import Block, CellValue, Code, Conclusion, Details, Document, Section, Table, Text
from nn_from_scratch.report.results_file import environment, publish, store

_SEVERITY = ("wrong", "fragile", "undecided", "limit", "correct", "not_applicable")
#: Of a subject: the worst first, and "limit" only where limits count.
_VERDICTS = ("wrong", "fragile", "undecided", "limit", "correct")
#: So many findings are told at length; the table has all of them.
_MOST_TOLD = 100


def summarize_verifications(verifications: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The results in a file of the kind "verification".

    Args:
        verifications: each what `nn_from_scratch.verify.Report.to_dict` gives, perhaps with the key "test".

    Returns:
        "verdict", whether all "passed" and whether any "failed", "counts" of the verdicts, "worst_margin" and the
        "verifications".
    """
    counts = Counter(str(entry["verdict"]) for entry in verifications)
    verdict = next((name for name in _VERDICTS if counts[name]), "undecided")
    margins = [float(entry["worst_margin"]) for entry in verifications if entry["worst_margin"] is not None]
    return {
        "verdict": verdict,
        "passed": bool(verifications) and all(entry["passed"] for entry in verifications),
        "failed": any(entry["failed"] for entry in verifications),
        "counts": {name: counts[name] for name in ("correct", "wrong", "fragile", "undecided", "limit")},
        "worst_margin": max(margins, default=None),
        "verifications": [dict(entry) for entry in verifications],
    }


def verification_document(results: Mapping[str, Any], *, commands: Sequence[str]) -> Document:
    """The document of verifications.

    Args:
        results: what `summarize_verifications` gives.
        commands: shell lines that verify all of it again.
    """
    verifications = sorted(results["verifications"], key=lambda entry: _SEVERITY.index(entry["verdict"]))
    sections = [Section("Verified backward passes", (_subjects(verifications, commands),))]
    findings = [(entry, finding) for entry in verifications for finding in entry["findings"]]
    if findings:
        blocks: list[Block] = []
        for entry, finding in findings[:_MOST_TOLD]:
            blocks += _finding(entry, finding)
        if len(findings) > _MOST_TOLD:
            blocks.append(Text(f"{len(findings) - _MOST_TOLD} more findings stand in the table of checks alone."))
        sections.append(Section("Findings", tuple(blocks)))
    left_out = dict.fromkeys(entry["not_looked_at"] for entry in verifications if "not_looked_at" in entry)
    remarks = [Text(f"Not looked at by any check: {words}.") for words in left_out]
    sections.append(Section("Checks", (_checks(verifications), *remarks)))
    return Document(
        title=f"Verification of {verifications[0]['subject']}" if len(verifications) == 1 else "Verification",
        verdict=Conclusion(_status(results), _sentence(results)),
        sections=tuple(sections),
        environment=environment(),
        commands=tuple(commands),
    )


def write_verifications(
    verifications: Sequence[Mapping[str, Any]],
    *,
    commands: Sequence[str],
    json: Path | None = None,
    markdown: Path | None = None,
    html: Path | None = None,
) -> None:
    """Write verifications as a results file and as a document, which also goes to the job summary.

    Args:
        verifications: as in `summarize_verifications`.
        commands: shell lines that verify all of it again.

    Raises:
        OSError: a file cannot be written.
    """
    results = summarize_verifications(verifications)
    store(json, "verification", results, commands=commands)
    publish(verification_document(results, commands=commands), markdown=markdown, html=html)


def _status(results: Mapping[str, Any]) -> str:
    if results["failed"]:
        return "failed"
    return "passed" if results["passed"] else "undecided"


def _sentence(results: Mapping[str, Any]) -> str:
    number = len(results["verifications"])
    if not number:
        return "Nothing was verified."
    counts = results["counts"]
    always = ("correct", "wrong", "undecided")
    listed = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name in always)
    margin = results["worst_margin"]
    worst = "" if margin is None else f"; the largest difference is {margin:.3g} times what is allowed"
    if number == 1:
        name = results["verifications"][0]["subject"]
        verdict = {
            "correct": "was proven right",
            "wrong": "is wrong",
            "fragile": "is right at the given inputs and silently wrong elsewhere",
            "limit": "was proven right, with limits that count as failures",
            "undecided": "could not be decided, which is not a pass",
        }
        return f"The backward pass of {name} {verdict[results['verdict']]}{worst}."
    return f"{number} backward passes: {listed}{worst}."


def _subjects(verifications: Sequence[Mapping[str, Any]], commands: Sequence[str]) -> Table:
    rows: list[tuple[CellValue, ...]] = []
    tests = _are_tests(verifications)
    for entry in verifications:
        checks = entry["counts"]
        margin = None if entry["worst_margin"] is None else float(entry["worst_margin"])
        row: list[CellValue] = [entry["verdict"], entry["subject"], margin, *(checks[name] for name in _SEVERITY)]
        row += [entry["seed"], entry["level"], float(entry["seconds"])]
        rows.append((*_test_of(entry, tests), *row, Code(_again(entry, commands))))
    numbers = (name.replace("_", " ") for name in _SEVERITY)
    return Table(
        "One line for each subject; the margin is |difference| / allowed, above 1 is wrong; time in seconds.",
        (
            *(("test",) if tests else ()),
            "verdict",
            "subject",
            "worst margin",
            *numbers,
            "seed",
            "level",
            "time in s",
            "reproduce",
        ),
        tuple(rows),
    )


def _are_tests(verifications: Sequence[Mapping[str, Any]]) -> bool:
    return any("test" in entry for entry in verifications)


def _test_of(entry: Mapping[str, Any], tests: bool) -> tuple[CellValue, ...]:
    """The column with the test's name, where there is one."""
    return (entry.get("test"),) if tests else ()


def _again(entry: Mapping[str, Any], commands: Sequence[str]) -> str:
    """The shell line that verifies this subject again: its test, or the command that verified it alone."""
    if "test" not in entry:
        return commands[0] if commands else ""
    words = ["python", "-m", "pytest", entry["test"], f"--nnfs-seed={entry['seed']}"]
    return shlex.join([*words, *([f"--nnfs-level={entry['level']}"] if entry["level"] != "quick" else [])])


def _checks(verifications: Sequence[Mapping[str, Any]]) -> Table:
    rows: list[tuple[CellValue, ...]] = []
    tests = _are_tests(verifications)
    for severity in _SEVERITY:
        for entry in verifications:
            rows += [
                (
                    *_test_of(entry, tests),
                    severity.replace("_", " "),
                    entry["subject"],
                    result["check"],
                    result["tensor"],
                    None if result["margin"] is None else float(result["margin"]),
                    None if result["resolution"] is None else float(result["resolution"]),
                    result["reason"] or result["diagnosis"],
                )
                for result in entry["results"]
                if result["verdict"] == severity
            ]
    return Table(
        "One line for each check and tensor; the resolution is the smallest relative error that could have been seen.",
        (*(("test",) if tests else ()), "verdict", "subject", "check", "tensor", "margin", "resolution", "remark"),
        tuple(rows),
    )


def _finding(entry: Mapping[str, Any], result: Mapping[str, Any]) -> list[Block]:
    where = f"{entry['test']}: " if "test" in entry else ""
    parts = [f"{where}{entry['subject']}: {result['label']} is {result['verdict']}."]
    if result["diagnosis"]:
        parts.append(f"Diagnosis: {_sentence_of(result['diagnosis'])}")
    if result["reason"]:
        parts.append(_sentence_of(result["reason"]))
    mismatch = result["mismatch"]
    if mismatch is not None:
        ours, theirs = mismatch.get("sides", ("found", "expected"))
        worst = "" if mismatch["index"] is None else f"Worst entry {mismatch['index']}: "
        parts.append(
            f"{worst}{ours} {float(mismatch['analytic']):.9g}, {theirs} {float(mismatch['numeric']):.9g}, "
            f"allowed ±{float(mismatch['allowed']):.1g}."
        )
    if result["also_at"]:
        parts.append(f"Also at {result['also_at']}.")
    blocks: list[Block] = [Text(" ".join(parts))]
    if result["snippet"]:
        blocks.append(Details("A file that reproduces it", result["snippet"]))
    return blocks


def _sentence_of(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
