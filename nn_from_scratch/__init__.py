"""nn_from_scratch: write a backward pass by hand, and prove it right.

The public names are loaded when they are first used, so that importing the package imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nn_from_scratch.denoiser import Denoiser
    from nn_from_scratch.layer import Layer
    from nn_from_scratch.layers import Conv2d, Flatten, Linear, ReLU, Sigmoid, TransposeConv2d
    from nn_from_scratch.losses import MSE
    from nn_from_scratch.models import report_model
    from nn_from_scratch.module import Container, Module, Saving, Sequential, backward
    from nn_from_scratch.optimizers import SGD, Adam
    from nn_from_scratch.records import Record, no_records

_HOMES = {
    "denoiser": ("Denoiser",),
    "layer": ("Layer",),
    "layers": ("Conv2d", "Flatten", "Linear", "ReLU", "Sigmoid", "TransposeConv2d"),
    "losses": ("MSE",),
    "models": ("report_model",),
    "module": ("Container", "Module", "Saving", "Sequential", "backward"),
    "optimizers": ("SGD", "Adam"),
    "records": ("Record", "no_records"),
}
_ROOM_OF = {name: room for room, names in _HOMES.items() for name in names}

__all__ = [
    "MSE",
    "SGD",
    "Adam",
    "Container",
    "Conv2d",
    "Denoiser",
    "Flatten",
    "Layer",
    "Linear",
    "Module",
    "ReLU",
    "Record",
    "Saving",
    "Sequential",
    "Sigmoid",
    "TransposeConv2d",
    "__version__",
    "backward",
    "no_records",
    "report_model",
]


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'nn_from_scratch' has no attribute {name!r}")
    return getattr(import_module(f"nn_from_scratch.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
