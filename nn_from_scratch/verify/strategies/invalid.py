"""Geometries that are invalid in exactly one way, which has a name: each must be refused with a clear error.

Each is a valid one but for that, so an error can be due to nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from hypothesis import strategies as st

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.strategies import constants
from nn_from_scratch.verify.strategies.axes import note_code
from nn_from_scratch.verify.strategies.geometries import (
    Convolution,
    Pair,
    Pooling,
    Shape,
    Shown,
    SpatialGeometry,
    TransposedConvolution,
)
from nn_from_scratch.verify.strategies.valid import convolutions, poolings, transposed_convolutions

A = TypeVar("A", Convolution, TransposedConvolution, Pooling)
Convolutional = Convolution | TransposedConvolution
G = TypeVar("G", bound=SpatialGeometry)

# torch does not refuse these, but writes outside of its memory.
_PADDING_ALONE = "window of padding alone"


@dataclass(frozen=True, kw_only=True)
class Invalid(Shown, Generic[G]):
    """A geometry that is valid but for one thing.

    Attributes:
        fault: What that is; a name out of `CONVOLUTION_FAULTS`, or of the same for the others.
        geometry: All of it, the wrong numbers included.
        x_shape: Of the input that belongs to it: wrong itself where the fault is there.
    """

    fault: str
    geometry: G
    x_shape: Shape

    @property
    def operand_shapes(self) -> Mapping[str, Shape]:
        """The shapes of the operands by name."""
        return {**self.geometry.operand_shapes, "x": self.x_shape}

    def call(self) -> str:
        """The call that torch refuses."""
        call = f"{self.geometry.result()}  # {self.fault}"
        return f"# {call}: here torch writes outside of its memory" if self.fault == _PADDING_ALONE else call


# From a valid geometry to one with the fault, or to the shape of an input that does not belong to it.
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


def _beyond(name: str, first: Callable[[Any, int], int]) -> Spoil:
    """The first number that is too large, or one more, along one of the two axes."""
    return lambda draw, valid: _along(
        draw, valid, name, lambda place: first(valid, place) + draw(st.integers(0, constants.EXCESS))
    )


def _large_kernel(valid: Convolution | Pooling, place: int) -> int:
    padded = valid.size[place] + 2 * valid.padding[place]
    if isinstance(valid, Pooling) and valid.ceil_mode:
        padded += valid.stride[place] - 1
    return -(-padded // valid.dilation[place]) + 1


def _nothing_left(valid: TransposedConvolution, place: int) -> int:
    return valid.padding[place] + (valid.output_size[place] + 1) // 2


def _padding_alone(draw: st.DrawFn, valid: Pooling) -> Pooling:
    """Windows of two entries: the first of them has one on each side of the input."""
    place = draw(st.integers(0, 1))
    d = draw(st.integers(*constants.DILATION_OVER_INPUT))
    numbers = {"kernel": 2, "dilation": d, "size": d - 1, "padding": 1}
    changed: dict[str, Any] = {name: _with(getattr(valid, name), place, number) for name, number in numbers.items()}
    return replace(valid, **changed)


def _indivisible(name: str) -> Spoil:
    other = "out_channels" if name == "in_channels" else "in_channels"

    def spoil(draw: st.DrawFn, valid: Convolutional) -> Convolutional:
        G = draw(st.sampled_from(constants.INDIVISIBLE_GROUPS))
        rest = draw(st.integers(1, G - 1))
        count = (getattr(valid, name) // valid.groups, getattr(valid, other) // valid.groups)
        changed: dict[str, Any] = {"groups": G, name: G * count[0] + rest, other: G * count[1]}
        return replace(valid, **changed)

    return spoil


def _wrong_channels(draw: st.DrawFn, valid: Convolutional) -> Shape:
    N, C, H, W = valid.x_shape
    return N, draw(st.sampled_from([n for n in (C + 1, C - 1, 2 * C) if n > 0])), H, W


def _wrong_axes(draw: st.DrawFn, valid: A) -> Shape:
    """Its last axes alone, or one more."""
    axes, longer = draw(st.sampled_from(constants.WRONG_AXES)), (*valid.x_shape, 1)
    return longer[4 - axes : 4] if axes < 4 else longer


# By name: how to make one, and the arguments that a kernel must have for the fault to exist.
Faults = Mapping[str, tuple[Spoil, str]]

_SHARED: Faults = {
    "zero kernel": (_numbers("kernel", 0), "kernel"),
    "zero stride": (_numbers("stride", 0), "stride"),
    "negative stride": (_numbers("stride", *constants.NEGATIVE), "stride"),
    "negative padding": (_numbers("padding", *constants.NEGATIVE), "padding"),
    "zero dilation": (_numbers("dilation", 0), "dilation"),
    "wrong number of axes": (_wrong_axes, "size"),
}
_OF_CHANNELS: Faults = {
    "zero groups": (lambda draw, valid: replace(valid, groups=0), "groups"),
    "in_channels not divisible by groups": (_indivisible("in_channels"), "groups"),
    "out_channels not divisible by groups": (_indivisible("out_channels"), "groups"),
    "wrong channels": (_wrong_channels, "size"),
}
_CONVOLUTION: Faults = {
    "kernel larger than the input": (_beyond("kernel", _large_kernel), "kernel"),
    **_SHARED,
    **_OF_CHANNELS,
}
_TRANSPOSED: Faults = {
    "padding that leaves nothing": (_beyond("padding", _nothing_left), "padding"),
    "output padding too large": (
        _beyond("output_padding", lambda valid, place: max(valid.stride[place], valid.dilation[place])),
        "output_padding",
    ),
    "negative output padding": (_numbers("output_padding", *constants.NEGATIVE), "output_padding"),
    **_SHARED,
    **_OF_CHANNELS,
}
_POOLING: Faults = {
    "window larger than the input": (_beyond("kernel", _large_kernel), "kernel"),
    "padding over half of the kernel": (
        _beyond("padding", lambda valid, place: valid.kernel[place] // 2 + 1),
        "padding",
    ),
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
    drawn = draw(valid)
    made = faults[fault][0](draw, drawn)
    geometry, x_shape = (drawn, made) if isinstance(made, tuple) else (made, made.x_shape)
    invalid: Invalid[A] = Invalid(fault=fault, geometry=geometry, x_shape=x_shape)
    note_code(invalid.snippet, show=show)
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
    """The same for transposed convolutions, with names out of `TRANSPOSED_CONVOLUTION_FAULTS`."""
    return _spoiled(transposed_convolutions(show=False, **bounds), _selected(_TRANSPOSED, faults, bounds), show)


def invalid_poolings(
    *, faults: Collection[str] | None = None, show: bool = True, **bounds: Any
) -> st.SearchStrategy[Invalid[Pooling]]:
    """The same for poolings, with names out of `POOLING_FAULTS`."""
    return _spoiled(poolings(show=False, **bounds), _selected(_POOLING, faults, bounds), show)
