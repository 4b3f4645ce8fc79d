"""A small neural-network engine on `torch.Tensor` that works without the autograd engine.

It implements the report *Mini-Project 2* by Jozef Coldenhoff and Bonan Sun, whose sections are cited as "report, II.G".
Every backward pass is written by hand.

| file | what is in it |
|---|---|
| `graph.py` | the heart: what a forward pass leaves behind, and the traversal back through it |
| `module.py`, `layer.py`, `parameters.py` | modules and containers; what a layer's author writes; parameters |
| `layers/`, `losses/`, `optimizers/` | one file a family: forward, backward and formula on one screen |
| `convolutions/` | the three maps of a convolution, and the algorithms that compute them |
| `step.py`, `low_precision.py` | a training step, traced and run again, or in bfloat16 and float16 |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nn_from_scratch.engine import layers, losses, optimizers
from nn_from_scratch.engine.convolutions import convolution_algorithm as convolution_algorithm
from nn_from_scratch.engine.graph import Record as Record
from nn_from_scratch.engine.graph import Saving as Saving
from nn_from_scratch.engine.graph import no_records as no_records
from nn_from_scratch.engine.graph import release_records as release_records
from nn_from_scratch.engine.layer import Layer as Layer
from nn_from_scratch.engine.layers import *
from nn_from_scratch.engine.losses import *
from nn_from_scratch.engine.module import Container as Container
from nn_from_scratch.engine.module import Module as Module
from nn_from_scratch.engine.module import Sequential as Sequential
from nn_from_scratch.engine.module import backward as backward
from nn_from_scratch.engine.optimizers import *
from nn_from_scratch.engine.step import TrainingStep as TrainingStep

if not TYPE_CHECKING:
    __all__ = [
        *("Container", "Layer", "Module", "Record", "Saving", "Sequential", "TrainingStep"),
        *("backward", "convolution_algorithm", "no_records", "release_records"),
        *layers.__all__,
        *losses.__all__,
        *optimizers.__all__,
    ]
