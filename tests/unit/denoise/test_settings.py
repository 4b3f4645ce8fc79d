from __future__ import annotations

import math
import re
from dataclasses import asdict
from typing import Any

import pytest

from nn_from_scratch.denoise.settings import RunSettings, TrainingSettings
from nn_from_scratch.errors import ArgumentError


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
        ({"conv": "fft"}, "conv is 'fft', but 'auto', 'im2col', 'native' or 'unfold' is expected"),
        ({"threads": 0}, "threads is 0, but an integer of at least 1 is expected"),
    ],
)
def test_nonsense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        RunSettings(**values)
