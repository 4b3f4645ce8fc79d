from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from typing import Any

import pytest

from nn_from_scratch.denoise.settings import (
    EpochResult,
    RunSettings,
    TrainingProgress,
    TrainingSettings,
    new_settings,
    stored_settings,
)
from nn_from_scratch.errors import ArgumentError, CheckpointError

HISTORY = (
    EpochResult(epoch=1, loss=0.1 + 0.2, psnr=1 / 3, seconds=2.5, samples_per_second=7.0),
    EpochResult(epoch=2, loss=0.25, psnr=None, seconds=2.0, samples_per_second=8.0),
)


def test_the_defaults_are_the_reports() -> None:
    assert asdict(TrainingSettings()) == {
        "epochs": 10,
        "batch_size": 16,
        "optimizer": "sgd",
        "lr": 0.5,
        "momentum": 0.9,
        "seed": 0,
        "precision": "float32",
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs is 0, but an integer of at least 1 is expected"),
        ({"epochs": 1.5}, "epochs is 1.5, but an integer of at least 1 is expected"),
        ({"epochs": True}, "epochs is True, but an integer of at least 1 is expected"),
        ({"batch_size": -1}, "batch_size is -1, but an integer of at least 1 is expected"),
        ({"seed": -1}, "seed is -1, but an integer of at least 0 and below 9223372036854775808 is expected"),
        ({"seed": 2**63}, "seed is 9223372036854775808, but an integer of at least 0 and below"),
        ({"optimizer": "rmsprop"}, "optimizer is 'rmsprop', but 'sgd' or 'adam' is expected"),
        ({"lr": 0.0}, "lr is 0.0, but a finite number above 0 is expected"),
        ({"lr": -0.5}, "lr is -0.5, but a finite number above 0 is expected"),
        ({"lr": math.nan}, "lr is nan, but a finite number above 0 is expected"),
        ({"lr": math.inf}, "lr is inf, but a finite number above 0 is expected"),
        ({"momentum": 1.0}, "momentum is 1.0, but a number of at least 0 and below 1 is expected"),
        ({"momentum": math.nan}, "momentum is nan, but a number of at least 0 and below 1 is expected"),
        ({"optimizer": "adam"}, "momentum is 0.9, but it belongs to sgd: leave it out, or 0, with adam"),
        ({"train_size": 0}, "train_size is 0, but an integer of at least 1 is expected"),
        ({"validation_size": 0}, "validation_size is 0, but an integer of at least 1 is expected"),
        ({"conv": "fft"}, "conv is 'fft', but 'auto', 'native' or 'unfold' is expected"),
        ({"threads": 0}, "threads is 0, but an integer of at least 1 is expected"),
    ],
)
def test_nonsense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        RunSettings(**values)


def test_the_settings_of_a_new_run_are_the_reports() -> None:
    assert new_settings({}) == RunSettings()
    assert new_settings({"optimizer": "adam"}) == RunSettings(optimizer="adam", lr=0.01, momentum=0.0)


def test_an_older_name_of_an_algorithm_is_read() -> None:
    assert stored_settings({"conv": "im2col", "epochs": 3}) == RunSettings(conv="unfold", epochs=3)
    assert stored_settings({"conv": "native"}) == RunSettings(conv="native")


def test_progress_survives_json_exactly() -> None:
    progress = TrainingProgress(history=HISTORY, step=64, loss_sum=1 / 7, seconds=0.3)
    assert TrainingProgress.from_json(json.loads(json.dumps(progress.to_json()))) == progress


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (TrainingProgress(), "0 epochs"),
        (TrainingProgress(history=HISTORY[:1]), "1 epoch"),
        (TrainingProgress(history=HISTORY, step=64), "2 epochs and 64 steps of epoch 3"),
    ],
)
def test_progress_in_words(progress: TrainingProgress, words: str) -> None:
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
        TrainingProgress.from_json(values)


def test_epochs_must_follow_each_other() -> None:
    values = TrainingProgress(history=HISTORY).to_json()
    values["history"] = values["history"][1:]
    with pytest.raises(CheckpointError, match=r"epochs are not 1, 2, 3, \.\.\. or a negative step"):
        TrainingProgress.from_json(values)
