"""Results of benchmarks as documents: the verdict, the report's numbers, intervals, and what does not count."""

from __future__ import annotations

import shlex
from fnmatch import fnmatchcase
from typing import Any

import pytest

from nn_from_scratch.cli import build_parser
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report.benchmark_table1 import again_cell
from nn_from_scratch.report.benchmarks import benchmark_document
from nn_from_scratch.report.document import Document, Figure
from nn_from_scratch.report.rendering import to_html, to_markdown
from nn_from_scratch.report.results_file import envelope


def document(results: dict[str, Any]) -> Document:
    return benchmark_document(envelope("benchmark", results, commands=("nn-from-scratch bench run table1",)))


def figures(found: Document) -> list[Figure]:
    return [block for section in found.sections for block in section.blocks if isinstance(block, Figure)]


def outcome(verdict: str, interval: list[float] | None, name: str = "softmax") -> dict[str, Any]:
    groups = [[1.0, 1.1], [0.9, 1.0]]
    return {
        "name": name,
        "verdict": verdict,
        "reason": "Because.",
        "interval": interval,
        "control": interval,
        "seconds": {} if interval is None else dict.fromkeys(("candidate", "reference", "control"), groups),
        "counts": {
            "candidate": {"operators": 9, "launches": None, "peak_bytes": 2048},
            "reference": {"operators": 7, "launches": None, "peak_bytes": 1024},
        },
    }


def comparison(*outcomes: dict[str, Any], removed: tuple[str, ...] = ()) -> Document:
    lists = {"removed": list(removed), "allowed": ["a"], "added": ["new"]}
    return document(
        {"what": "comparison", "head": "h", "base": "b", "tolerance": 0.05, "outcomes": list(outcomes), **lists}
    )


@pytest.mark.parametrize(
    ("verdicts", "removed", "status", "words"),
    [
        (("OK", "OK"), (), "passed", "2 OK."),
        (("OK", "REGRESSED"), (), "failed", "1 OK, 1 REGRESSED (softmax)."),
        (("OK", "INCONCLUSIVE"), (), "undecided", "1 OK, 1 INCONCLUSIVE."),
        (("OK", "INVALID"), (), "failed", "is not a pass"),
        (("OK",), ("gone",), "failed", "removed without permission: gone"),
        ((), ("gone",), "failed", "Nothing was compared; removed without permission: gone"),
        ((), (), "failed", "Nothing was compared, which is not a pass."),
    ],
)
def test_the_verdict_of_a_comparison(
    verdicts: tuple[str, ...], removed: tuple[str, ...], status: str, words: str
) -> None:
    found = comparison(*(outcome(verdict, None) for verdict in verdicts), removed=removed)
    assert found.verdict.status == status
    assert words in found.verdict.sentence


def test_a_comparison_shows_intervals_rounds_counts_and_what_is_gone() -> None:
    found = comparison(outcome("REGRESSED", [1.2, 1.15, 1.25]), outcome("INVALID", None, "broken"), removed=("gone",))
    text = to_markdown(found)
    assert "| REGRESSED | softmax | 1 s | 1 s | 1.200 \\[1.150, 1.250\\] |" in text
    assert "| REMOVED | gone |" in text and "| new | new |" in text and "| removed, as allowed | a |" in text
    assert "| softmax | operators | 7 | 9 | 2 |" in text
    assert "| softmax | peak memory | 1 KiB | 2 KiB | 1 KiB |" in text
    forest, rounds = figures(found)
    assert "softmax: 1.200 [1.150, 1.250]" in forest.alt
    assert "REGRESSED" in forest.svg and "tolerated: 1.05" in forest.svg and "broken" not in forest.svg
    assert "head / base" in rounds.svg and "base / base (control)" in rounds.svg and "round" in rounds.svg
    page = to_html(found)
    assert page.count("<svg") == 4 and "nn-from-scratch bench run table1" in page


def timing(row: str, ratio: float | None, **changes: Any) -> dict[str, Any]:
    interval = None if ratio is None else [ratio, ratio * 0.98, ratio * 1.02]
    counts = {"operators": 40, "launches": None, "peak_bytes": 2**20}
    numbers = {"void": "", "mean": 2.0, "deviation": 0.125, "seconds": [[1.0, 1.0]] * 2, "losses": [0.1]}
    return {
        "row": row, "optimizer": "Adam", "ratio": interval, "to_compiled": None, "counts": counts, **numbers, **changes
    }  # fmt: skip


def table1(*timings: dict[str, Any]) -> Document:
    report = {"Adam": [[3.986, 0.143], [0.856, 0.060]]}
    return document(
        {"what": "table1", "title": "Table I", "machine": {"GPU": "H"}, "timings": list(timings), "report": report}
    )


def test_table_one_stands_beside_the_reports_numbers() -> None:
    found = table1(timing("unfold", 1.3), timing("auto", 0.6), timing("PyTorch eager", 1.0))
    text = to_markdown(found)
    assert "| Adam | the report: its own | 3.986 ± 0.143 | 4.66 |" in text
    assert "| Adam | the report: PyTorch | 0.856 ± 0.060 | 1.00 |" in text
    assert "| Adam | auto | 2.000 ± 0.125 | 0.600 \\[0.588, 0.612\\] | – |" in text
    assert "| Adam | auto | 40 | – | 1 MiB |" in text
    assert found.verdict.status == "information"
    assert "Adam: auto at 0.600 of PyTorch eager. All rows have the same losses." in found.verdict.sentence
    assert found.environment["GPU"] == "H"
    forest, slices = figures(found)
    assert "Adam: auto: 0.600" in forest.alt and "PyTorch eager:" not in forest.alt
    assert "seconds of a slice" in slices.svg and "Adam" in slices.svg


def test_a_void_row_is_no_number_and_no_fastest_one() -> None:
    lost = {"void": "other losses than PyTorch eager", "mean": None, "deviation": None}
    found = table1(timing("auto", None, **lost), timing("unfold", 1.3), timing("PyTorch eager", 1.0))
    assert found.verdict.status == "undecided"
    assert "unfold at 1.300" in found.verdict.sentence and "Void: auto (Adam)." in found.verdict.sentence
    assert "| Adam | auto | – | – | – | void: other losses than PyTorch eager |" in to_markdown(found)


@pytest.mark.parametrize(
    ("command", "name", "line"),
    [
        (
            "nn-from-scratch bench run table1 --json a.json --quick",
            "sum",
            "nn-from-scratch bench run table1 --quick --only sum",
        ),
        (
            "nn-from-scratch bench compare --base 'a b' --only 's*' --json=a.json",
            "s[0]*",
            "nn-from-scratch bench compare --base 'a b' --only 's[[]0][*]'",
        ),
        ("nn-from-scratch bench run table1", "Adam: auto", "nn-from-scratch bench run table1 --only 'Adam: auto'"),
    ],
)
def test_each_line_names_the_command_that_measures_it_again(command: str, name: str, line: str) -> None:
    assert again_cell((command,), name) == line
    assert again_cell((), name) is None
    args = build_parser().parse_args(shlex.split(line)[1:])
    assert fnmatchcase(name, args.only) and args.json is None


def test_every_kind_of_benchmark_says_how_a_line_is_measured_again() -> None:
    for found, name in (
        (comparison(outcome("OK", [1.0, 0.9, 1.01])), "softmax"),
        (comparison(removed=("gone",)), "gone"),
        (table1(timing("auto", 0.6), timing("PyTorch eager", 1.0)), "'Adam: auto'"),
    ):
        assert f"`nn-from-scratch bench run table1 --only {name}` |" in to_markdown(found)


def test_other_results_are_refused() -> None:
    with pytest.raises(ArgumentError, match="of the kind 'verification', but 'benchmark' is expected"):
        benchmark_document(envelope("verification", {}))
    with pytest.raises(ArgumentError, match="what = None, but one of comparison, table1 is expected"):
        document({})
    with pytest.raises(ArgumentError, match="the results of 'table1' are not complete .KeyError: 'timings'."):
        document({"what": "table1"})
