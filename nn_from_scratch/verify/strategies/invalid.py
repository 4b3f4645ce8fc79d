"""Geometries that are invalid in exactly one way, which has a name: each must be refused with a clear error.

Each is a valid one but for that, so an error can be due to nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from hypothesis import strategies as st
from torch import Tensor

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.strategies.axes import Snippet
from nn_from_scratch.verify.strategies.convolutional import convolutions, transposed_convolutions
from nn_from_scratch.verify.strategies.geometry import (
    Convolution,
    Geometry,
    Pair,
    Pooling,
    Shape,
    TransposedConvolution,
    draw_operands,
    operand_code,
)
from nn_from_scratch.verify.strategies.pooling import poolings

__all__ = [
    "CONVOLUTION_FAULTS",
    "POOLING_FAULTS",
    "TRANSPOSED_CONVOLUTION_FAULTS",
    "Invalid",
    "invalid_convolutions",
    "invalid_poolings",
    "invalid_transposed_convolutions",
]

A = TypeVar("A", Convolution, TransposedConvolution, Pooling)
Convolutional = Convolution | TransposedConvolution
G = TypeVar("G", bound=Geometry)

# torch does not refuse these, but writes outside of its memory.
_PADDING_ALONE = "window of padding alone"

# No kernel that is written for (N, C, H, W) takes these; three axes torch takes as a sample without a batch.
_AXES = (1, 2, 5)


@dataclass(frozen=True, kw_only=True)
class Invalid(Generic[G]):
    """A geometry that is valid but for one thing.

    Attributes:
        fault: What that is; a name out of `CONVOLUTION_FAULTS`, or of its like for the other kinds.
        geometry: All of it, the wrong numbers included.
        x_shape: Of the input that belongs to it: wrong itself where the fault is there.
    """

    fault: str
    geometry: G
    x_shape: Shape

    def operands(self, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """The tensors that `snippet` builds under the same seed: x and w for a convolution, x alone for a pooling."""
        return draw_operands(self.geometry.operand_shapes(self.x_shape), seed, dtype)

    def snippet(self, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> str:
        """Python that runs on its own: the operands, and the call that torch refuses.

        Args:
            seed: Determines the entries, as in `operands`.
            dtype: A floating-point or complex one.
        """
        shapes = self.geometry.operand_shapes(self.x_shape)
        call = f"y = {self.geometry.code([*shapes])}  # {self.fault}"
        if self.fault == _PADDING_ALONE:
            call = f"# {call}: here torch writes outside of its memory"
        return "\n".join([*operand_code(shapes, seed, dtype), call])


# From a valid geometry, one with the fault; or all of `Invalid`, where the fault is in the shape of the input.
Spoil = Callable[[st.DrawFn, Any], Any]


def _along(draw: st.DrawFn, valid: A, name: str, number: Callable[[int], int]) -> A:
    """With another number along one of the two axes."""
    place = draw(st.integers(0, 1))
    changed: dict[str, Any] = {name: _with(getattr(valid, name), place, number(place))}
    return replace(valid, **changed)


def _with(pair: Pair, place: int, number: int) -> Pair:
    return (number, pair[1]) if place == 0 else (pair[0], number)


def _numbers(name: str, *numbers: int) -> Spoil:
    """One of these numbers along one of the two axes."""
    return lambda draw, valid: _along(draw, valid, name, lambda place: draw(st.sampled_from(numbers)))


def _large_kernel(draw: st.DrawFn, valid: A) -> A:
    def number(place: int) -> int:
        room = valid.size[place] + 2 * valid.padding[place]
        if isinstance(valid, Pooling) and valid.ceil_mode:
            room += valid.stride[place] - 1
        return -(-room // valid.dilation[place]) + 1 + draw(st.integers(0, 1))

    return _along(draw, valid, "kernel", number)


def _nothing_left(draw: st.DrawFn, valid: TransposedConvolution) -> TransposedConvolution:
    def number(place: int) -> int:
        return valid.padding[place] + (valid.output_size[place] + 1) // 2 + draw(st.integers(0, 1))

    return _along(draw, valid, "padding", number)


def _output_padding(draw: st.DrawFn, valid: TransposedConvolution) -> TransposedConvolution:
    def number(place: int) -> int:
        return max(valid.stride[place], valid.dilation[place]) + draw(st.integers(0, 2))

    return _along(draw, valid, "output_padding", number)


def _half_padding(draw: st.DrawFn, valid: Pooling) -> Pooling:
    return _along(draw, valid, "padding", lambda place: valid.kernel[place] // 2 + 1 + draw(st.integers(0, 1)))


def _padding_alone(draw: st.DrawFn, valid: Pooling) -> Pooling:
    """Windows of two entries: the first of them has one on each side of the input."""
    place = draw(st.integers(0, 1))
    d = draw(st.integers(2, 4))
    numbers = {"kernel": 2, "dilation": d, "size": d - 1, "padding": 1}
    changed: dict[str, Any] = {name: _with(getattr(valid, name), place, number) for name, number in numbers.items()}
    return replace(valid, **changed)


def _indivisible(name: str) -> Spoil:
    other = "out_channels" if name == "in_channels" else "in_channels"

    def spoil(draw: st.DrawFn, valid: Convolutional) -> Convolutional:
        G = draw(st.integers(2, 3))
        rest = draw(st.integers(1, G - 1))
        count = (getattr(valid, name) // valid.groups, getattr(valid, other) // valid.groups)
        changed: dict[str, Any] = {"groups": G, name: G * count[0] + rest, other: G * count[1]}
        return replace(valid, **changed)

    return spoil


def _zero_groups(draw: st.DrawFn, valid: Convolutional) -> Convolutional:
    return replace(valid, groups=0)


def _wrong_channels(draw: st.DrawFn, valid: Convolutional) -> Invalid[Any]:
    N, C, H, W = valid.x_shape
    wrong = [n for n in (C + 1, C - 1, 2 * C) if n > 0]
    return Invalid(fault="", geometry=valid, x_shape=(N, draw(st.sampled_from(wrong)), H, W))


def _wrong_axes(draw: st.DrawFn, valid: A) -> Invalid[Any]:
    shape = (*valid.x_shape, 1)
    axes = draw(st.sampled_from(_AXES))
    return Invalid(fault="", geometry=valid, x_shape=shape if axes == 5 else shape[4 - axes : 4])


# By name: how to make one, and the arguments that a kernel must have for the fault to exist.
Faults = Mapping[str, tuple[Spoil, str]]

_SHARED: Faults = {
    "zero kernel": (_numbers("kernel", 0), "kernel"),
    "zero stride": (_numbers("stride", 0), "stride"),
    "negative stride": (_numbers("stride", -1, -2), "stride"),
    "negative padding": (_numbers("padding", -1, -2), "padding"),
    "zero dilation": (_numbers("dilation", 0), "dilation"),
    "wrong number of axes": (_wrong_axes, "size"),
}
_OF_CHANNELS: Faults = {
    "zero groups": (_zero_groups, "groups"),
    "in_channels not divisible by groups": (_indivisible("in_channels"), "groups"),
    "out_channels not divisible by groups": (_indivisible("out_channels"), "groups"),
    "wrong channels": (_wrong_channels, "size"),
}
_CONVOLUTION: Faults = {"kernel larger than the input": (_large_kernel, "kernel"), **_SHARED, **_OF_CHANNELS}
_TRANSPOSED: Faults = {
    "padding that leaves nothing": (_nothing_left, "padding"),
    "output padding too large": (_output_padding, "output_padding"),
    "negative output padding": (_numbers("output_padding", -1, -2), "output_padding"),
    **_SHARED,
    **_OF_CHANNELS,
}
_POOLING: Faults = {
    "window larger than the input": (_large_kernel, "kernel"),
    "padding over half of the kernel": (_half_padding, "padding"),
    _PADDING_ALONE: (_padding_alone, "dilation padding"),
    **_SHARED,
}

#: What the three strategies below know, by name.
CONVOLUTION_FAULTS = tuple(_CONVOLUTION)
TRANSPOSED_CONVOLUTION_FAULTS = tuple(_TRANSPOSED)
POOLING_FAULTS = tuple(_POOLING)


@st.composite
def _spoiled(draw: st.DrawFn, valid: st.SearchStrategy[A], faults: Faults, show: bool) -> Invalid[A]:
    fault = draw(st.sampled_from([*faults]))
    made = faults[fault][0](draw, draw(valid))
    geometry = made.geometry if isinstance(made, Invalid) else made
    invalid: Invalid[A] = Invalid(fault=fault, geometry=geometry, x_shape=made.x_shape)
    Snippet(invalid.snippet).noted(show=show)
    return invalid


def _selected(known: Faults, faults: Collection[str] | None, arguments: Mapping[str, Any]) -> Faults:
    for fault in faults or ():
        if fault not in known:
            raise ArgumentError(f"faults has {fault!r}, but the known ones are {', '.join(known)}")
    chosen = {
        name: spoil
        for name, spoil in known.items()
        if (faults is None or name in faults) and not any(arguments.get(needed) is False for needed in spoil[1].split())
    }
    if not chosen:
        raise ArgumentError(f"faults is {faults!r}, but at least one that the arguments leave possible is expected")
    return chosen


def invalid_convolutions(
    *, faults: Collection[str] | None = None, show: bool = True, **bounds: Any
) -> st.SearchStrategy[Invalid[Convolution]]:
    """Two-dimensional convolutions that are invalid in exactly one way.

    Args:
        faults: Names out of `CONVOLUTION_FAULTS`; all by default, but for those of arguments that are False.
        show: Whether a failing example prints `Invalid.snippet`.
        bounds: As in `convolutions`, of all but the number that is wrong.

    Raises:
        ArgumentError: An argument makes no sense, or no fault is left.
    """
    return _spoiled(convolutions(show=False, **bounds), _selected(_CONVOLUTION, faults, bounds), show)


def invalid_transposed_convolutions(
    *, faults: Collection[str] | None = None, show: bool = True, **bounds: Any
) -> st.SearchStrategy[Invalid[TransposedConvolution]]:
    """Two-dimensional transposed convolutions that are invalid in exactly one way.

    Args:
        faults: Names out of `TRANSPOSED_CONVOLUTION_FAULTS`; all by default, but for those of arguments that are
            False.
        show: Whether a failing example prints `Invalid.snippet`.
        bounds: As in `transposed_convolutions`, of all but the number that is wrong.

    Raises:
        ArgumentError: An argument makes no sense, or no fault is left.
    """
    return _spoiled(transposed_convolutions(show=False, **bounds), _selected(_TRANSPOSED, faults, bounds), show)


def invalid_poolings(
    *, faults: Collection[str] | None = None, ceil_mode: bool | None = None, show: bool = True, **bounds: Any
) -> st.SearchStrategy[Invalid[Pooling]]:
    """Two-dimensional poolings that are invalid in exactly one way.

    Args:
        faults: Names out of `POOLING_FAULTS`; all by default, but for those of arguments that are False.
        ceil_mode: As in `poolings`.
        show: Whether a failing example prints `Invalid.snippet`.
        bounds: As in `poolings`, of all but the number that is wrong.

    Raises:
        ArgumentError: An argument makes no sense, or no fault is left.
    """
    valid = poolings(show=False, ceil_mode=ceil_mode, **bounds)
    return _spoiled(valid, _selected(_POOLING, faults, bounds), show)
