"""The layers, one file a family."""

from __future__ import annotations

from nn_from_scratch.layers.activation import ReLU, Sigmoid
from nn_from_scratch.layers.convolution import Conv2d, TransposeConv2d
from nn_from_scratch.layers.linear import Linear
from nn_from_scratch.layers.shape import Flatten

__all__ = ["Conv2d", "Flatten", "Linear", "ReLU", "Sigmoid", "TransposeConv2d"]
