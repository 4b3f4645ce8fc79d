"""Losses: layers with two inputs, prediction and target; the output is a scalar, or one number for each entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nn_from_scratch.engine.losses.base import Loss as Loss
from nn_from_scratch.engine.losses.classification import *
from nn_from_scratch.engine.losses.regression import *
from nn_from_scratch.exports import subclasses_in

if not TYPE_CHECKING:
    __all__ = subclasses_in(globals(), Loss)
