"""Optimizers, which take the model because `zero_grad` clears its records too, and schedules of their rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nn_from_scratch.engine.optimizers.adam import *
from nn_from_scratch.engine.optimizers.base import Optimizer as Optimizer
from nn_from_scratch.engine.optimizers.rmsprop import *
from nn_from_scratch.engine.optimizers.schedules import *
from nn_from_scratch.engine.optimizers.schedules import Schedule as Schedule
from nn_from_scratch.engine.optimizers.sgd import *
from nn_from_scratch.exports import subclasses_in

if not TYPE_CHECKING:
    __all__ = [*subclasses_in(globals(), Optimizer), *subclasses_in(globals(), Schedule)]
