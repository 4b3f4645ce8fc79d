"""The report done again with a few hundred samples, and what its page says of it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report.document import Commands, Table
from nn_from_scratch.report.results_file import read_results
from nn_from_scratch.reproduction import Plan, jobs, reproduce
from nn_from_scratch.reproduction.claims import HOLDS, HOLDS_NOT, TOO_QUICK, UNTESTABLE, claims_of
from nn_from_scratch.reproduction.page import page
from nn_from_scratch.reproduction.parts import OURS, THEIRS, Job
from tests.unit.reproduction.plans import TABLE, TINY


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """A reproduction that was stopped after its first curve and taken up again, Table I put in."""
    out, lines = tmp_path_factory.mktemp("reproduction") / "out", list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GITHUB_STEP_SUMMARY", raising=False)
        real = jobs.run_job

        def stopped(plan: Plan, job: Job, folder: Path) -> dict[str, Any]:
            if "torch.nn" in job.title:
                raise KeyboardInterrupt
            return real(plan, job, folder)

        def ours(plan: Plan, job: Job, folder: Path) -> dict[str, Any]:
            assert job.name != "final", "what was done is done again"
            return TABLE if job.kind == "table1" else real(plan, job, folder)

        patch.setattr(jobs, "run_job", stopped)
        with pytest.raises(KeyboardInterrupt):
            reproduce(TINY, out, workers=0)
        assert {path.name for path in out.iterdir()} == {"plan.json", "parts", "final"}
        patch.setattr(jobs, "run_job", ours)
        content = reproduce(TINY, out, workers=0, say=lines.append)
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
    assert html.count("<svg") == 2 * 6 and "published" in html
    for text in (markdown, html):
        assert "which are not public, were not at hand" in text and "photographs of scikit-image" in text
        for title in ("III.A: the error", "Table I", "Fig. 2", "Fig. 3 and IV", "II.D: what keeping"):
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
    slow = {**TABLE, "timings": [{**timing, "ratio": [4.0, 3.9, 4.1]} for timing in TABLE["timings"]]}
    assert verdicts({**parts, "table1": slow})[4] == HOLDS
    forgetful = {**parts["memory"], OURS: {**parts["memory"][OURS], "backward": 0}}
    assert verdicts({**parts, "memory": forgetful})[0] == HOLDS_NOT
    course = {**parts["final"], "psnr": 23.7, "data": {**parts["final"]["data"], "course": True}}
    whole = replace(TINY, quick=False)
    assert verdicts({**parts, "final": course}, whole)[-1] == HOLDS
    assert verdicts({**parts, "final": {**course, "psnr": 22.0}}, whole)[-1] == HOLDS_NOT
    best = {name: {**part, "psnr": [30.0, 30.0]} for name, part in parts.items() if name.startswith("curve-sgd-with")}
    assert verdicts({**parts, **best}, whole)[-2] == HOLDS
    unmeasured = {**TABLE, "timings": [{**timing, "ratio": None} for timing in TABLE["timings"]]}
    assert verdicts({**parts, "table1": unmeasured})[4] == UNTESTABLE


def test_a_quick_run_decides_nothing_about_training(done: tuple[Path, dict[str, Any], list[str]]) -> None:
    out, content, _ = done
    parts = content["results"]["parts"]
    course = {**parts["final"], "data": {**parts["final"]["data"], "course": True}}
    quick, whole = (verdicts({**parts, "final": course}, plan) for plan in (TINY, replace(TINY, quick=False)))
    assert [place for place, verdict in enumerate(quick) if verdict == TOO_QUICK] == [3, 6, 7]
    assert TOO_QUICK not in whole and [whole[place] for place in (0, 1, 2, 4, 5)] == [quick[p] for p in (0, 1, 2, 4, 5)]
    for text in ((out / name).read_text(encoding="utf-8") for name in ("report.md", "report.html")):
        assert "2 not tested by a quick run" in text and "how training converges, it does not tell" in text


def test_another_plan_or_a_foreign_folder_is_refused(
    done: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match="where another reproduction was begun"):
        reproduce(replace(TINY, seeds=1), done[0], workers=0)
    (tmp_path / "mine").write_text("", encoding="utf-8")
    with pytest.raises(ArgumentError, match="which holds something else, but a new or an empty folder is expected"):
        reproduce(TINY, tmp_path, workers=0)


def test_every_claim_and_part_has_its_command(
    done: tuple[Path, dict[str, Any], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plan, "chosen", lambda **options: TINY)
    document = page(TINY, done[1]["results"], commands=())
    claims = next(block for block in document.sections[0].blocks if isinstance(block, Table))
    commands = [str(row[-1]) for row in claims.rows]
    assert commands[0] == "nn-from-scratch reproduce --quick --only=memory" and len(commands) == 8
    assert all(command.startswith("nn-from-scratch reproduce --quick --only=") for command in commands)
    last = [section.blocks[-1] for section in document.sections[1:]]
    assert [str(block.lines[0]).partition("--only=")[2] for block in last if isinstance(block, Commands)] == [
        "parity", "table1", "curve --only=rounding", "final", "memory"
    ]  # fmt: skip


def test_photographs_are_side_by_side_in_one_picture(done: tuple[Path, dict[str, Any], list[str]]) -> None:
    rows = done[1]["results"]["parts"]["final"]["photographs"]
    assert [row["name"] for row in rows] == ["noisy", "non-local means", "ours", "clean"]
    with Image.open(io.BytesIO(base64.b64decode(rows[0]["png"]))) as picture:
        assert picture.size == (6 * 32, 32)
    assert len(rows[0]["psnr"]) == 6 and min(rows[-1]["psnr"]) > 50 > max(rows[0]["psnr"])
