"""Losses: layers with two inputs, prediction and target; the output is a scalar, or one number for each entry."""

from __future__ import annotations

from nn_from_scratch.engine.losses.base import Loss
from nn_from_scratch.engine.losses.classification import BCEWithLogits, CrossEntropy
from nn_from_scratch.engine.losses.regression import L1, MSE, Huber

__all__ = ["L1", "MSE", "BCEWithLogits", "CrossEntropy", "Huber", "Loss"]
