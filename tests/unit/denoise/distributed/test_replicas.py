"""Data-parallel runs in several processes: the numbers of one process, and what happens when a rank is gone."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nn_from_scratch.cli import main
from nn_from_scratch.denoise.data import load_pairs
from nn_from_scratch.denoise.distributed import replicas
from nn_from_scratch.denoise.distributed.launch import Launch
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.denoise.settings import RunSettings
from nn_from_scratch.denoise.training import make_optimizer, train
from nn_from_scratch.errors import ReplicaError
from tests.unit.denoise.distributed.ranks import SCENARIOS, SETTINGS, cloned, fresh_model, tiny_pairs

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the ranks of these tests are forked")
ROOT = Path(__file__).parents[4]


def run_ranks(folder: Path, *names: str) -> None:
    # PYTHONPATH: a run elsewhere than in the repository, of the tests' own modules.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-m", "tests.unit.denoise.distributed.ranks", str(folder), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def said(folder: Path) -> list[str]:
    """What all ranks wrote to standard error."""
    return [line for path in sorted(folder.glob("*.err")) for line in path.read_text().splitlines() if line]


def statuses(folder: Path) -> list[int]:
    found: list[int] = json.loads((folder / "statuses.json").read_text())
    return found


def test_ranks_take_the_steps_of_one_process_to_rounding(tmp_path: Path) -> None:
    run_ranks(tmp_path, "two", "four", "documented")
    model = fresh_model()
    reached = train(model, make_optimizer(model, SETTINGS), tiny_pairs(), settings=SETTINGS, validate=False)
    alone = cloned(model)
    start = cloned(fresh_model())
    for name in ("two", "four"):
        folder = tmp_path / name
        size = SCENARIOS[name].size
        assert statuses(folder) == [0] * size, said(folder)
        first, *others = (load_file(folder / f"{rank}.safetensors") for rank in range(size))
        for key, tensor in alone.items():
            step = (tensor - start[key]).abs().max()
            assert (first[key] - tensor).abs().max() < 1e-12 * step
            assert all(other[key].equal(first[key]) for other in others)
        histories = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]
        for history in histories:
            assert [entry["loss"] for entry in history] == pytest.approx([r.loss for r in reached.history], rel=1e-12)
    folder = tmp_path / "documented"
    assert statuses(folder) == [0, 0], said(folder)
    assert (folder / "0.safetensors").read_bytes() == (folder / "1.safetensors").read_bytes()
    assert "loss of step 10:" in (folder / "0.out").read_text() and not (folder / "1.out").read_text()


@pytest.mark.gpu
def test_ranks_on_two_gpus_take_the_steps_of_one_process(tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip(f"two GPUs are needed, and there is {torch.cuda.device_count()}: NCCL takes one rank for each")
    run_ranks(tmp_path, "gpus")
    assert statuses(tmp_path / "gpus") == [0, 0], said(tmp_path / "gpus")
    model = fresh_model()
    train(model, make_optimizer(model, SETTINGS), tiny_pairs(), settings=SETTINGS, validate=False)
    first, second = (load_file(tmp_path / "gpus" / f"{rank}.safetensors") for rank in range(2))
    for key, tensor in cloned(model).items():
        assert first[key].equal(second[key])
        torch.testing.assert_close(first[key], tensor, rtol=1e-9, atol=1e-11)


def test_a_dead_rank_ends_the_others_with_one_sentence(tmp_path: Path) -> None:
    names = ("killed", "leader killed", "frozen", "interrupted", "refused", "misspelt")
    run_ranks(tmp_path, *names)
    killed, leader, frozen, interrupted, refused, misspelt = (tmp_path / name for name in names)

    assert statuses(killed) == [2, -9, 2]
    (sentence,) = said(killed)
    assert re.fullmatch(
        r"nn-from-scratch: error: rank 1 of 3 no longer answers \(killed, crashed, frozen or cut off\), so the whole "
        r"run ends: go on from its last checkpoint with train --resume; 'run/checkpoint.safetensors' "
        r"keeps \d+ epochs?.*",
        sentence,
    )

    assert statuses(leader) == [-9, 2]
    (sentence,) = said(leader)
    assert re.match(r"nn-from-scratch: error: (rank 1 on .*: )?the store in which the ranks meet no longer", sentence)

    assert statuses(frozen) == [2, -9, 2]
    (sentence,) = said(frozen)
    assert "error: rank 1 of 3 no longer answers" in sentence

    assert statuses(interrupted) == [130, 130]
    (sentence,) = said(interrupted)
    assert sentence.startswith("nn-from-scratch: interrupted: ") and "go on with" in sentence

    assert statuses(refused) == statuses(misspelt) == [2, 2]
    (sentence,) = said(refused)
    assert "nowhere" in sentence and not list(refused.glob("run*"))
    (sentence,) = said(misspelt)
    assert "argument --epochs: invalid int value: 'many'" in sentence

    for folder in (killed, leader, frozen, interrupted, refused, misspelt):
        assert all(not path.read_text() for path in folder.glob("[1-9].out"))
        assert not any("Traceback" in path.read_text() for path in folder.glob("*.err"))


def test_torchrun_writes_one_checkpoint_that_one_process_resumes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = ["--train-size", "40", "--validation-size", "2", "--batch-size", "9", "--lr", "0.1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "nn_from_scratch", "train", *arguments, "--epochs", "1", "--out", "run"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line[:9] for line in done.stdout.splitlines() if line.startswith("epoch ")] == ["epoch 1/1"]
    assert "2 processes, each with a part of every batch" in done.stdout

    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "2"]) == 0
    settings = RunSettings(epochs=2, train_size=40, validation_size=2, batch_size=9, lr=0.1)
    model = report_model(generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    pairs = load_pairs(None, noise=settings.noise, train_size=40, validation_size=2, seed=0)
    train(model, make_optimizer(model, settings), pairs, settings=settings, validate=False)
    resumed = load_file(tmp_path / "run" / "checkpoint.safetensors")
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(resumed[f"model.{key}"], tensor, rtol=1e-4, atol=1e-5)


def test_ranks_that_do_not_come_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "_JOINING", 0.3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = Launch(rank=0, size=3, local_rank=0, host="127.0.0.1", port=port, serves=True)
    with pytest.raises(ReplicaError, match=f"ranks 1 and 2 of 3 did not come to 127.0.0.1:{port} within 0 s"):
        replicas.join(launch)
    with pytest.raises(ReplicaError, match=f"the ranks cannot meet at 127.0.0.1:{port} "):
        replicas.join(replace(launch, rank=1, serves=False))
