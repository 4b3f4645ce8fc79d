"""nn_from_scratch: write a backward pass by hand, and prove it right.

The public names are loaded when they are first used, so that importing the package imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nn_from_scratch.denoise.denoiser import Denoiser
    from nn_from_scratch.denoise.model import report_model
    from nn_from_scratch.engine.capture import TrainingStep
    from nn_from_scratch.engine.convolutions import convolution_algorithm
    from nn_from_scratch.engine.graph import Record, Saving, no_records, release_records
    from nn_from_scratch.engine.layer import Layer
    from nn_from_scratch.engine.layers import (
        GELU,
        Add,
        AvgPool2d,
        BatchNorm2d,
        Concat,
        Conv2d,
        Dropout,
        Flatten,
        GroupNorm,
        LayerNorm,
        LeakyReLU,
        Linear,
        LogSoftmax,
        MaxPool2d,
        PixelShuffle,
        ReLU,
        Sigmoid,
        SiLU,
        Softmax,
        Tanh,
        TransposeConv2d,
        Upsample,
    )
    from nn_from_scratch.engine.losses import L1, MSE, BCEWithLogits, CrossEntropy, Huber
    from nn_from_scratch.engine.module import Container, Module, Sequential, backward
    from nn_from_scratch.engine.optimizers import SGD, Adam, AdamW, RMSprop
    from nn_from_scratch.engine.optimizers.schedules import CosineAnnealingLR, LinearLR, SequentialLR, StepLR
    from nn_from_scratch.parity.exchange import from_torch, to_torch

_HOMES = {
    "capture": ("TrainingStep",),
    "convolutions": ("convolution_algorithm",),
    "denoiser": ("Denoiser",),
    "exchange": ("from_torch", "to_torch"),
    "layer": ("Layer",),
    "layers": (
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
    ),
    "losses": ("L1", "MSE", "BCEWithLogits", "CrossEntropy", "Huber"),
    "models": ("report_model",),
    "module": ("Container", "Module", "Sequential", "backward"),
    "optimizers": ("SGD", "Adam", "AdamW", "RMSprop"),
    "records": ("Record", "Saving", "no_records", "release_records"),
    "schedules": ("CosineAnnealingLR", "LinearLR", "SequentialLR", "StepLR"),
}
_ROOM_OF = {name: room for room, names in _HOMES.items() for name in names}

__all__ = [
    "GELU",
    "L1",
    "MSE",
    "SGD",
    "Adam",
    "AdamW",
    "Add",
    "AvgPool2d",
    "BCEWithLogits",
    "BatchNorm2d",
    "Concat",
    "Container",
    "Conv2d",
    "CosineAnnealingLR",
    "CrossEntropy",
    "Denoiser",
    "Dropout",
    "Flatten",
    "GroupNorm",
    "Huber",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LinearLR",
    "LogSoftmax",
    "MaxPool2d",
    "Module",
    "PixelShuffle",
    "RMSprop",
    "ReLU",
    "Record",
    "Saving",
    "Sequential",
    "SequentialLR",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "StepLR",
    "Tanh",
    "TrainingStep",
    "TransposeConv2d",
    "Upsample",
    "__version__",
    "backward",
    "convolution_algorithm",
    "from_torch",
    "no_records",
    "release_records",
    "report_model",
    "to_torch",
]


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'nn_from_scratch' has no attribute {name!r}")
    return getattr(import_module(f"nn_from_scratch.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
