"""Strategies for hypothesis: tensors, and geometries of convolutions and poolings, valid and invalid ones.

They are made for anyone's kernel: bounds say how large each number may be, and `False` leaves out what it does not
know. A failing example shrinks to the smallest geometry and prints code that builds it and calls torch's function.
"""

from __future__ import annotations

from nn_from_scratch.extras import missing

try:
    from nn_from_scratch.verify.strategies.axes import Bounds
    from nn_from_scratch.verify.strategies.geometries import Convolution, Pooling, TransposedConvolution
    from nn_from_scratch.verify.strategies.invalid import (
        CONVOLUTION_FAULTS,
        POOLING_FAULTS,
        TRANSPOSED_CONVOLUTION_FAULTS,
        Invalid,
        invalid_convolutions,
        invalid_poolings,
        invalid_transposed_convolutions,
    )
    from nn_from_scratch.verify.strategies.tensors import LAYOUTS, SPECIAL_VALUES, shapes, tensor_snippet, tensors
    from nn_from_scratch.verify.strategies.valid import convolutions, poolings, transposed_convolutions
except ModuleNotFoundError as error:
    if error.name != "hypothesis":
        raise
    raise missing("nn_from_scratch.verify.strategies", "hypothesis", "strategies") from None

__all__ = [
    "CONVOLUTION_FAULTS",
    "LAYOUTS",
    "POOLING_FAULTS",
    "SPECIAL_VALUES",
    "TRANSPOSED_CONVOLUTION_FAULTS",
    "Bounds",
    "Convolution",
    "Invalid",
    "Pooling",
    "TransposedConvolution",
    "convolutions",
    "invalid_convolutions",
    "invalid_poolings",
    "invalid_transposed_convolutions",
    "poolings",
    "shapes",
    "tensor_snippet",
    "tensors",
    "transposed_convolutions",
]
