"""How the report is done again: in parts, by workers, taken up after a kill, and what is refused."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nn_from_scratch.bench import table1
from nn_from_scratch.bench.table1 import Settings
from nn_from_scratch.cli import build_parser, main
from nn_from_scratch.denoise.runs import RunFolder
from nn_from_scratch.errors import ArgumentError, DataError, NNFromScratchError
from nn_from_scratch.reproduction import Plan, jobs, reproduce
from nn_from_scratch.reproduction.final import final
from nn_from_scratch.reproduction.training_curves import pairs_of
from tests.unit.reproduction.plans import TINY


def test_a_folder_in_which_nothing_was_done_takes_another_plan(tmp_path: Path) -> None:
    missing = replace(TINY, data=str(tmp_path / "missing"))
    with pytest.raises(DataError, match="missing' does not exist"):
        reproduce(missing, tmp_path / "out", workers=0)
    content = reproduce(TINY, tmp_path / "out", workers=0, only=["memory"])
    assert json.loads((tmp_path / "out" / "plan.json").read_bytes())["data"] is None
    assert [claim["section"] for claim in content["results"]["claims"]] == ["II.D"]
    (tmp_path / "out" / "plan.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArgumentError, match="where another reproduction was begun"):
        reproduce(TINY, tmp_path / "out", workers=0)


def test_a_part_alone_says_what_it_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Plan, "chosen", lambda **options: TINY)
    assert main(["reproduce", "--quick", "--only", "parity"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\[1/1\] III.A: the error from layer to layer: done after \d:\d\d, about 0:00 left", said[0])
    assert said[1] == "the report is written once all parts are done; 16 are missing in reproduction-quick-parity"
    assert [line.split(":")[0] for line in said[2:]] == ["III.A", "III.A"]
    assert {path.name for path in Path("reproduction-quick-parity").iterdir()} == {"plan.json", "parts"}


def test_lines_of_the_page_name_the_command_that_does_them_again() -> None:
    plan = Plan.chosen(quick=True, data="/my data")
    line = "nn-from-scratch reproduce --quick --only=curve --only=rounding '--data=/my data'"
    assert plan.command(only=["curve", "rounding"]) == line
    args = build_parser().parse_args(shlex.split(line)[1:])
    assert (args.only, args.quick, str(args.data)) == (["curve", "rounding"], True, "/my data")
    on_gpu = Plan.chosen(quick=False, device="cuda:1").command(out=Path("here"))
    assert on_gpu == "nn-from-scratch reproduce --out=here --device=cuda:1"
    assert TINY.command() == ""


def test_the_final_model_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = final(TINY, tmp_path / "whole")
    save = RunFolder.save

    def killed(self: RunFolder, *args: Any, **options: Any) -> None:
        save(self, *args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        final(TINY, tmp_path / "halves")
    monkeypatch.undo()
    halves = final(TINY, tmp_path / "halves")
    for key in ("loss", "psnr"):
        assert [epoch[key] for epoch in halves["history"]] == [epoch[key] for epoch in whole["history"]]
    assert halves["photographs"] == whole["photographs"] and len(whole["history"]) == 2


def test_a_worker_that_dies_is_told_of_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        def submit(self, *args: object) -> Future[None]:
            future = Future[None]()
            future.set_exception(BrokenProcessPool())
            return future

    monkeypatch.setattr(jobs, "_pool", lambda number: contextlib.nullcontext(Dying()))
    with pytest.raises(NNFromScratchError, match="a worker process died, .* run the same again"):
        reproduce(TINY, tmp_path / "out", only=["parity"])


def test_workers_end_with_an_interrupt() -> None:
    def interrupted() -> None:
        with jobs._pool(1) as pool:
            pool.submit(time.sleep, 600)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        "import os, time\nfrom nn_from_scratch.reproduction import jobs\n"
        "if __name__ == '__main__':\n"
        "    with jobs._pool(1) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        pool.submit(time.sleep, 600).result()\n",
        encoding="utf-8",
    )
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f"the worker {worker} is still there, 20 s after its parent was killed")


def test_table_one_is_measured_with_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Measured:
        def __init__(self, settings: Settings) -> None:
            self.found = {"samples": settings.samples, "epochs": settings.epochs, "threads": torch.get_num_threads()}

        def to_json(self) -> dict[str, int]:
            return self.found

    monkeypatch.setattr(table1, "run_table", Measured)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert jobs.run_job(TINY, TINY.jobs[-1], tmp_path) == {"samples": 32, "epochs": 1, "threads": 1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_course_files_are_used_when_given(tmp_path: Path) -> None:
    images = torch.randint(256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for name in ("train_data.pkl", "val_data.pkl"):
        torch.save((images, images.flip(0)), tmp_path / name)
    pairs = pairs_of(replace(TINY, data=str(tmp_path)))
    assert torch.equal(pairs.train_noisy_a, images)
    assert any("is not the course's own file" in notice for notice in pairs.notices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "abacus"], "device is 'abacus'"),
        pytest.param(
            ["--device", "cuda"],
            "device is 'cuda', but CUDA is not available here; 'cpu' is",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here"),
        ),
        (["--only", "memry"], "only names 'memry', but the parts are memory, parity, table1"),
        (["--out", "file/in/it"], "out is 'file/in/it', which cannot be written: Not a directory"),
        (["--out", "file"], "out is 'file', but a new or an empty folder is expected"),
    ],
)
def test_the_command_refuses_bad_input_in_a_sentence(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("", encoding="utf-8")
    assert main(["reproduce", "--quick", *options]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_workers_do_the_jobs_in_processes_of_their_own(tmp_path: Path) -> None:
    chosen, kept = [job for job in TINY.jobs if job.kind == "parity"], list[str]()
    jobs._run(chosen, TINY, tmp_path, 1, lambda job, content: kept.append(f"{job.name} {sorted(content)}"))
    assert kept == ["parity ['float32', 'float64']"]


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "_run", interrupted)
    out = tmp_path / "out"
    assert main(["reproduce", "--quick", "--out", str(out)]) == 130
    assert f"go on with: nn-from-scratch reproduce --quick --out={out}\n" in capsys.readouterr().err


def test_a_failed_job_leaves_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: object) -> None:
        raise ArgumentError("not today")

    monkeypatch.setattr(jobs, "run_job", failing)
    with pytest.raises(ArgumentError, match="not today"):
        reproduce(TINY, tmp_path / "out", workers=0)
    assert not list((tmp_path / "out").glob("re*"))
