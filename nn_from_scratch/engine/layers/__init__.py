"""The layers, one file a family. A public layer in any of them is exported without being listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nn_from_scratch.engine.layer import Layer
from nn_from_scratch.engine.layers.activation import *
from nn_from_scratch.engine.layers.batch_normalization import *
from nn_from_scratch.engine.layers.convolution import *
from nn_from_scratch.engine.layers.dropout import *
from nn_from_scratch.engine.layers.joining import *
from nn_from_scratch.engine.layers.linear import *
from nn_from_scratch.engine.layers.normalization import *
from nn_from_scratch.engine.layers.pooling import *
from nn_from_scratch.engine.layers.resampling import *
from nn_from_scratch.engine.layers.shape import *
from nn_from_scratch.engine.layers.softmax import *
from nn_from_scratch.exports import subclasses_in

if not TYPE_CHECKING:
    __all__ = subclasses_in(globals(), Layer)
