"""The report done again with a few hundred samples: all parts, taken up after a kill, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nn_from_scratch.cli import main
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report import read_results
from nn_from_scratch.reproduction import Plan, reproduce, running
from nn_from_scratch.reproduction.claims import HOLDS, HOLDS_NOT, UNTESTABLE, claims_of
from nn_from_scratch.reproduction.plan import OURS, THEIRS, Job
from nn_from_scratch.reproduction.training_curves import pairs_of

TINY = Plan(
    train_size=96,
    validation_size=16,
    epochs=2,
    seeds=2,
    final_epochs=2,
    rounding_steps=4,
    memory_batch=4,
    compared=4,
    table_samples=32,
    table_epochs=1,
    quick=True,
)
TABLE = {
    "title": "Table I",
    "timings": [
        {"row": row, "optimizer": name, "mean": 1.0, "deviation": 0.1, "ratio": ratio, "void": ""}
        for name in ("SGD", "SGD with momentum", "Adam")
        for row, ratio in (("unfold", [2.0, 1.9, 2.1]), ("auto", [0.9, 0.8, 1.0]), ("eager", [1.0, 1.0, 1.0]))
    ],
    "report": {"SGD": [[3.846, 0.187], [0.844, 0.070]]},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """A reproduction that was stopped after its first curve and taken up again, Table I put in."""
    out, lines = tmp_path_factory.mktemp("reproduction") / "out", list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GITHUB_STEP_SUMMARY", raising=False)
        real = running._run_job

        def stopped(plan: Plan, job: Job, folder: Path) -> dict[str, Any]:
            if "torch.nn" in job.title:
                raise KeyboardInterrupt
            return real(plan, job, folder)

        def ours(plan: Plan, job: Job, folder: Path) -> dict[str, Any]:
            assert job.name != "final", "what was done is done again"
            return TABLE if job.kind == "table1" else real(plan, job, folder)

        patch.setattr(running, "_run_job", stopped)
        with pytest.raises(KeyboardInterrupt):
            reproduce(TINY, out, workers=0)
        assert {path.name for path in out.iterdir()} == {"plan.json", "parts", "final"}
        patch.setattr(running, "_run_job", ours)
        content = reproduce(TINY, out, workers=0, say=lines.append, commands=["do it"])
    return out, content, lines


def test_what_was_done_before_the_stop_is_not_done_again(done: tuple[Path, dict[str, Any], list[str]]) -> None:
    out, _, lines = done
    assert lines[0] == f"1 of 17 parts are there already, in {out}"
    assert lines[-1].startswith("written: ") and "[17/17] Table I" in lines[-2]


def test_results_page_and_markdown_hold_every_part(done: tuple[Path, dict[str, Any], list[str]]) -> None:
    out, content, _ = done
    assert read_results(out / "results.json") == json.loads(json.dumps(content))
    results = content["results"]
    assert set(results) == {"plan", "data", "claims", "parts"}
    assert len([name for name in results["parts"] if name.startswith("curve-")]) == 12
    markdown = (out / "report.md").read_text(encoding="utf-8")
    html = (out / "report.html").read_text(encoding="utf-8")
    assert html.count("<svg") == 5 and html.count("<img") == 1 and "RTX 3060" in html
    for text in (markdown, html):
        assert "files are not public" in text and "photographs of scikit-image" in text
        for title in ("III.A: the error", "Table I", "Fig. 2", "Fig. 3 and IV", "II.D: what keeping", "do it"):
            assert title in text


def test_both_sides_take_the_same_steps_in_float64(done: tuple[Path, dict[str, Any], list[str]]) -> None:
    rounding = done[1]["results"]["parts"]["rounding"]
    assert rounding["steps"] == 4
    for row in rounding["optimizers"].values():
        assert row["weights"] < 1e-10 < 1e-4 < row["moved"] and row["loss"] < 1e-12


def test_both_sides_have_the_same_curves(done: tuple[Path, dict[str, Any], list[str]]) -> None:
    parts = done[1]["results"]["parts"]
    for name in ("sgd", "sgd-with-momentum"):
        for seed in (0, 1):
            ours, theirs = (parts[f"curve-{name}-{side}-{seed}"]["psnr"] for side in (OURS, THEIRS))
            assert ours == pytest.approx(theirs, abs=1e-2)
    assert parts["curve-sgd-ours-0"]["psnr"] != parts["curve-sgd-ours-1"]["psnr"]


def test_records_are_kept_by_ours_until_they_are_cleared(done: tuple[Path, dict[str, Any], list[str]]) -> None:
    memory = done[1]["results"]["parts"]["memory"]
    ours, theirs = memory[OURS], memory[THEIRS]
    assert ours["backward"] >= ours["forward"] > 0 and ours["two"] > 1.5 * ours["forward"]
    assert ours["cleared"] == theirs["backward"] == 0
    # Outputs of the first three layers and their ReLUs, of the last two, as the shapes of the report's model say.
    assert theirs["forward"] > 4 * 4 * (16 * 16 * 16 + 32 * 7 * 7 + 16 * 16 * 16 + 3 * 32 * 32)
    assert theirs["two"] == pytest.approx(theirs["forward"], rel=0.05)


def verdicts(parts: Mapping[str, Any], plan: Plan = TINY) -> list[str]:
    return [claim.verdict for claim in claims_of(plan, parts)]


def test_claims_follow_the_numbers(done: tuple[Path, dict[str, Any], list[str]]) -> None:
    parts = done[1]["results"]["parts"]
    plain = verdicts(parts)
    assert plain[0] == HOLDS and plain[4:6] == [HOLDS_NOT, UNTESTABLE] and plain[-1] == UNTESTABLE
    slow = {**TABLE, "timings": [{**timing, "ratio": [4.0, 3.9, 4.1]} for timing in TABLE["timings"]]}  # type: ignore[dict-item]  # a list of records
    assert verdicts({**parts, "table1": slow})[4] == HOLDS
    forgetful = {**parts["memory"], OURS: {**parts["memory"][OURS], "backward": 0}}
    assert verdicts({**parts, "memory": forgetful})[0] == HOLDS_NOT
    course = {**parts["final"], "psnr": 23.7, "data": {**parts["final"]["data"], "course": True}}
    whole = replace(TINY, quick=False)
    assert verdicts({**parts, "final": course}, whole)[-1] == HOLDS
    assert verdicts({**parts, "final": {**course, "psnr": 22.0}}, whole)[-1] == HOLDS_NOT
    assert verdicts({**parts, "final": course})[-1] == UNTESTABLE
    best = {name: {**part, "psnr": [30.0, 30.0]} for name, part in parts.items() if name.startswith("curve-sgd-with")}
    assert verdicts({**parts, **best})[-2] == HOLDS


def test_another_plan_or_a_foreign_folder_is_refused(
    done: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match="where another reproduction was begun"):
        reproduce(replace(TINY, seeds=1), done[0], workers=0)
    (tmp_path / "mine").write_text("", encoding="utf-8")
    with pytest.raises(ArgumentError, match="which holds something else; give a new or an empty folder"):
        reproduce(TINY, tmp_path, workers=0)


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
        (["--out", "file"], "out is 'file', which is no folder"),
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
    jobs, kept = [job for job in TINY.jobs if job.kind == "parity"], list[str]()
    running._run(jobs, TINY, tmp_path, 1, lambda job, content: kept.append(f"{job.name} {sorted(content)}"))
    assert kept == ["parity ['float32', 'float64']"]


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_run", interrupted)
    out = tmp_path / "out"
    assert main(["reproduce", "--quick", "--out", str(out)]) == 130
    assert f"go on with: nn-from-scratch reproduce --quick --out={out}\n" in capsys.readouterr().err


def test_a_failed_job_leaves_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: object) -> None:
        raise ArgumentError("not today")

    monkeypatch.setattr(running, "_run_job", failing)
    with pytest.raises(ArgumentError, match="not today"):
        reproduce(TINY, tmp_path / "out", workers=0)
    assert not list((tmp_path / "out").glob("re*"))
