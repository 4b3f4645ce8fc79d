"""Optimizers: they take the model, because `zero_grad` clears its records too."""

from __future__ import annotations

from nn_from_scratch.engine.optimizers.adam import Adam, AdamW
from nn_from_scratch.engine.optimizers.base import Optimizer, checked
from nn_from_scratch.engine.optimizers.rmsprop import RMSprop
from nn_from_scratch.engine.optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "checked"]
