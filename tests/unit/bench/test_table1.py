"""Table I with rows whose durations and losses are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from nn_from_scratch.bench import table1
from nn_from_scratch.bench.counts import Counts
from nn_from_scratch.bench.machine import float32_precision
from nn_from_scratch.bench.rows import COMPILED, EAGER, ROWS, Row, Step
from nn_from_scratch.bench.table1 import Settings, Table1, Timing, run_table
from nn_from_scratch.cli.bench_tables import show_table
from nn_from_scratch.errors import ArgumentError

SETTINGS = Settings(samples=10, batch=4, epochs=2, slices=2, quick=True)
Command = Callable[..., tuple[int, str, str]]


class Rows:
    """Rows that let a clock go on, and write down what they are handed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seen: dict[str, list[Tensor]] = {}

    def clock(self) -> float:
        return self.now

    def row(self, name: str, seconds: float, *, loss: float = 1.0, **options: Any) -> Row:
        def make(x: Tensor, optimizer: str) -> Step:
            self.seen[name] = []

            def step(x: Tensor, y: Tensor) -> Tensor:
                self.now += seconds
                self.seen[name].append(x)
                return torch.tensor(loss)

            return step

        return Row(name, make, **options)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    monkeypatch.setattr(table1, "count", lambda function, operators: Counts(7 if operators else None, None, 2**20))
    return Rows()


def measured(rows: Rows, *listed: Row, settings: Settings = SETTINGS) -> dict[str, Timing]:
    table = run_table(settings, rows=listed, optimizers=["SGD"], clock=rows.clock)
    return {timing.row: timing for timing in table.timings}


def test_a_ratio_is_that_of_the_seconds(rows: Rows) -> None:
    found = measured(rows, rows.row("ours", 2.0), rows.row(EAGER, 4.0), rows.row(COMPILED, 1.0, dispatches=False))
    ours = found["ours"]
    assert ours.mean == pytest.approx(3 * 2.0)  # 10 samples are three batches of at most 4
    assert len(ours.seconds) == SETTINGS.epochs
    assert ours.ratio is not None and ours.ratio.ratio == pytest.approx(0.5)
    assert ours.to_compiled is not None and ours.to_compiled.ratio == pytest.approx(2.0)
    assert ours.counts is not None and ours.counts.operators == 7
    assert (compiled := found[COMPILED].counts) is not None and compiled.operators is None


@pytest.mark.parametrize("loss", [1.1, float("nan")])
def test_a_row_with_other_losses_is_void(rows: Rows, loss: float) -> None:
    found = measured(rows, rows.row("ours", 1.0, loss=loss), rows.row(EAGER, 1.0))
    assert "other losses" in found["ours"].void
    assert found["ours"].ratio is None
    assert found["ours"].to_json()["mean"] is None
    assert not found[EAGER].void


def test_a_row_that_does_not_run_is_void_and_says_why(rows: Rows) -> None:
    def make(x: Tensor, optimizer: str) -> Step:
        raise RuntimeError("no compiler")

    found = measured(rows, Row("broken", make), rows.row(EAGER, 1.0))
    assert found["broken"].void == "does not run here: RuntimeError: no compiler"
    assert not found[EAGER].void


def test_every_shape_is_seen_three_times_before_the_first_epoch(rows: Rows) -> None:
    measured(rows, rows.row(EAGER, 1.0))
    assert [len(x) for x in rows.seen[EAGER][:6]] == [4, 4, 4, 2, 2, 2]
    assert [len(x) for x in rows.seen[EAGER][6:9]] == [4, 4, 2]


def test_a_row_is_handed_the_layout_that_it_asks_for(rows: Rows) -> None:
    measured(rows, rows.row("ours", 1.0, channels_last=("cpu",)), rows.row(EAGER, 1.0, channels_last=("cuda",)))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in rows.seen["ours"])
    assert all(x.is_contiguous() for x in rows.seen[EAGER])
    assert all(torch.equal(a, b) for a, b in zip(rows.seen["ours"], rows.seen[EAGER], strict=True))


def test_a_row_for_another_device_is_left_out(rows: Rows) -> None:
    assert "gpu" not in measured(rows, rows.row("gpu", 1.0, devices=("cuda",)), rows.row(EAGER, 1.0))


def test_eager_pytorch_must_be_there(rows: Rows) -> None:
    with pytest.raises(ArgumentError, match="'PyTorch eager' must be one of them"):
        measured(rows, rows.row("ours", 1.0))


def test_the_precision_on_a_gpu_is_that_of_the_table_only_while_it_is_measured(rows: Rows) -> None:
    seen = set()

    def make(x: Tensor, optimizer: str) -> Step:
        seen.add(torch.backends.cuda.matmul.fp32_precision)
        seen.add(torch.backends.cudnn.conv.fp32_precision)  # type: ignore[attr-defined]  # torch's types lack it
        return rows.row(EAGER, 1.0).make(x, optimizer)

    for precision, other in (("tf32", "ieee"), ("ieee", "tf32")):
        seen.clear()
        with float32_precision(other):
            before = torch.backends.cuda.matmul.fp32_precision
            run_table(replace(SETTINGS, precision=precision), rows=[Row(EAGER, make)], clock=rows.clock)
            assert seen == {precision}
            assert torch.backends.cuda.matmul.fp32_precision == before != precision


@pytest.mark.parametrize("options", [{"samples": 0}, {"batch": 0}, {"epochs": 0}, {"precision": "bf16"}])
def test_bad_settings_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=f"{next(iter(options))} is "):
        Settings(**options)


def test_a_quick_table_says_so_in_its_title() -> None:
    assert "QUICK" in Settings.chosen(quick=True, device="cpu").title
    whole = Settings.chosen(quick=False, device="cpu")
    assert "QUICK" not in whole.title
    assert (whole.samples, whole.steps) == (50_000, 391)


def test_real_rows_of_ours_are_not_void() -> None:
    listed = [row for row in ROWS if row.name in ("auto", "unfold", EAGER)]
    found = run_table(replace(SETTINGS, epochs=1), rows=listed, optimizers=["Adam"])
    assert [timing.void for timing in found.timings] == ["", "", ""]
    assert all(timing.counts is not None and timing.counts.operators for timing in found.timings)


def test_the_lines_hold_void_rows_and_the_reports_numbers(rows: Rows) -> None:
    listed = [rows.row("ours", 2.0, loss=3.0), rows.row(EAGER, 4.0)]
    console = Console(file=StringIO(), width=200)
    show_table(console, run_table(SETTINGS, rows=listed, optimizers=["SGD"], clock=rows.clock))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # it is the StringIO
    assert "QUICK" in lines[0]
    assert next(line for line in lines if line.startswith("  ours")).split()[1:3] == ["void", "void"]
    assert next(line for line in lines if line.startswith("  PyTorch eager")).split()[2:4] == ["12.000", "s"]
    assert "4.557" in next(line for line in lines if line.startswith("  the report: ours"))
    assert lines[-1].startswith("void: ours (SGD): other losses")


def test_the_command_prints_and_stores_the_table(
    rows: Rows, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    threads: list[int] = []

    def run(settings: Settings, **options: Any) -> Table1:
        threads.append(torch.get_num_threads())
        assert (settings.batch, settings.epochs, settings.quick) == (4, 2, True)
        options["rows"] = [rows.row("ours", 2.0), rows.row(EAGER, 4.0)]
        return run_table(replace(settings, samples=10), clock=rows.clock, **options)

    monkeypatch.setattr("nn_from_scratch.bench.table1.run_table", run)
    path = tmp_path / "table.json"
    before = torch.get_num_threads()
    options = ("--quick", "--batch", "4", "--epochs", "2", "--only", "SGD: *", "--json", str(path))
    status, out, _ = command("bench", "run", "table1", *options)
    assert status == 0
    assert threads == [1]
    assert torch.get_num_threads() == before
    assert "SGD: epoch 2 of 2" in out
    assert "0.500 [0.500, 0.500]" in out
    results = json.loads(path.read_text())["results"]
    assert results["what"] == "table1" and {timing["optimizer"] for timing in results["timings"]} == {"SGD"}
    assert [timing["row"] for timing in results["timings"]] == ["ours", EAGER]


def test_a_device_that_is_none_is_wrong_usage(command: Command) -> None:
    status, _, err = command("bench", "run", "table1", "--device", "abacus")
    assert status == 4
    assert "device is 'abacus'" in err
