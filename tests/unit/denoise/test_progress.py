from __future__ import annotations

import json
from typing import Any

import pytest

from nn_from_scratch.denoise.progress import EpochResult, Progress
from nn_from_scratch.errors import CheckpointError

HISTORY = (
    EpochResult(epoch=1, loss=0.1 + 0.2, psnr=1 / 3, seconds=2.5, samples_per_second=7.0),
    EpochResult(epoch=2, loss=0.25, psnr=None, seconds=2.0, samples_per_second=8.0),
)


def test_progress_survives_json_exactly() -> None:
    progress = Progress(history=HISTORY, step=64, loss_sum=1 / 7, seconds=0.3)
    assert Progress.from_json(json.loads(json.dumps(progress.to_json()))) == progress


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(), "0 epochs"),
        (Progress(history=HISTORY[:1]), "1 epoch"),
        (Progress(history=HISTORY, step=64), "2 epochs and 64 steps of epoch 3"),
    ],
)
def test_progress_in_words(progress: Progress, words: str) -> None:
    assert progress.describe() == words


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"history": [{}], "step": 0, "loss_sum": 0, "seconds": 0},
        {"history": 3, "step": 0, "loss_sum": 0, "seconds": 0},
        {"history": [], "step": "many", "loss_sum": 0, "seconds": 0},
    ],
)
def test_anything_else_is_refused(values: Any) -> None:
    with pytest.raises(CheckpointError, match="a record with history, step, loss_sum and seconds is expected"):
        Progress.from_json(values)


def test_epochs_must_follow_each_other() -> None:
    values = Progress(history=HISTORY).to_json()
    values["history"] = values["history"][1:]
    with pytest.raises(CheckpointError, match=r"epochs are not 1, 2, 3, \.\.\. or a negative step"):
        Progress.from_json(values)
