"""The layers, one file a family."""

from __future__ import annotations

from nn_from_scratch.engine.layers.activation import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh
from nn_from_scratch.engine.layers.batch_normalization import BatchNorm2d
from nn_from_scratch.engine.layers.convolution import Conv2d, TransposeConv2d
from nn_from_scratch.engine.layers.dropout import Dropout
from nn_from_scratch.engine.layers.joining import Add, Concat
from nn_from_scratch.engine.layers.linear import Linear
from nn_from_scratch.engine.layers.normalization import GroupNorm, LayerNorm
from nn_from_scratch.engine.layers.pooling import AvgPool2d, MaxPool2d
from nn_from_scratch.engine.layers.resampling import PixelShuffle, Upsample
from nn_from_scratch.engine.layers.shape import Flatten
from nn_from_scratch.engine.layers.softmax import LogSoftmax, Softmax

__all__ = [
    "GELU",
    "Add",
    "AvgPool2d",
    "BatchNorm2d",
    "Concat",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GroupNorm",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "PixelShuffle",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "TransposeConv2d",
    "Upsample",
]
