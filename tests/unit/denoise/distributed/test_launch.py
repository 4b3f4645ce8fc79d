"""What torchrun's environment says."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from nn_from_scratch.cli import main
from nn_from_scratch.denoise.distributed.launch import LIMIT, Launch, find_launch, is_follower, tell_launcher
from nn_from_scratch.errors import ArgumentError

TORCHRUN = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RESTART_COUNT": "2",
}


def test_torchruns_variables_are_read() -> None:
    assert find_launch(TORCHRUN) == Launch(
        rank=3, size=4, local_rank=1, host="node0", port=29500, serves=False, attempt=2, limit=LIMIT
    )
    assert is_follower(TORCHRUN) and not is_follower({**TORCHRUN, "RANK": "0"})


def test_without_torchrun_rank_0_serves_the_store() -> None:
    plain = {name: TORCHRUN[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    found = [find_launch({**plain, "RANK": rank}) for rank in ("0", "1")]
    assert [launch is not None and launch.serves for launch in found] == [True, False]


def test_a_process_that_was_started_by_itself_is_no_launch() -> None:
    assert find_launch({}) is None and not is_follower({})
    assert find_launch({"RANK": "1", "WORLD_SIZE": "2"}) is None
    assert find_launch({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}) is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RANK", "4", "RANK is '4', but an integer of at least 0 and below 4 is expected: torchrun sets it"),
        ("RANK", "-1", "RANK is '-1', but an integer"),
        ("WORLD_SIZE", "two", "WORLD_SIZE is 'two', but an integer of at least 1 is expected"),
        ("MASTER_PORT", "70000", "MASTER_PORT is '70000', but an integer of at least 0 and below 65536"),
        ("NNFS_RANK_SILENCE", "0", "NNFS_RANK_SILENCE is '0', but a positive number of seconds is expected"),
        ("NNFS_RANK_SILENCE", "soon", "NNFS_RANK_SILENCE is 'soon', but a positive number"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        find_launch({**TORCHRUN, name: value})
    assert not is_follower({**TORCHRUN, name: value})


def test_torchrun_is_told_why_a_rank_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "error.json"
    for name, value in {**TORCHRUN, "TORCHELASTIC_ERROR_FILE": str(file)}.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "--epoks", "1"]) == 2
    told = json.loads(file.read_bytes())
    assert told["message"] == "unrecognized arguments: --epoks 1" and abs(told["timestamp"] - time.time()) < 60
    assert capsys.readouterr().err == ""  # rank 0 says it
    file.unlink()
    assert main(["verify", "no/such/file.py:F", "--input", "3"]) == 2
    assert "no/such/file.py" in json.loads(file.read_bytes())["message"]


def test_a_place_that_torchrun_did_not_make_is_no_further_error(tmp_path: Path) -> None:
    tell_launcher("why", {"TORCHELASTIC_ERROR_FILE": str(tmp_path / "missing" / "error.json")})
    tell_launcher("why", {})
    assert not list(tmp_path.iterdir())
