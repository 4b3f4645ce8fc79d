"""Drawing the numbers of a geometry one after the other, so that each choice leaves the others possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Literal

from hypothesis import note
from hypothesis import strategies as st

from nn_from_scratch.errors import ArgumentError

__all__ = ["Bounds", "Snippet", "bounds", "draw_axes", "draw_axis", "pick", "possible"]

#: One number alone, or (least, most). False stands for a kernel that knows no such thing: neither groups, say, nor
#: faults of them.
Bounds = int | tuple[int, int] | Literal[False]

Ranges = tuple[tuple[str, range], ...]
Fits = Callable[..., bool]


def bounds(value: Bounds, *, name: str, least: int, off: int | None = None) -> range:
    """The numbers that an argument allows.

    Args:
        value: The argument.
        name: Its name.
        least: The least number that is valid.
        off: What False stands for; None where it stands for nothing.

    Raises:
        ArgumentError: It is neither a number nor a pair in order, or allows less than `least`.
    """
    if value is False and off is not None:
        return range(off, off + 1)
    both = value if isinstance(value, tuple) else (value, value)
    if (
        len(both) != 2
        or any(not isinstance(n, int) or isinstance(n, bool) for n in both)
        or not least <= both[0] <= both[1]
    ):
        choice = "" if off is None else ", or False"
        raise ArgumentError(
            f"{name} is {value!r}, but an integer of at least {least}, or a pair (least, most) of them{choice}, is "
            "expected"
        )
    return range(both[0], both[1] + 1)


@lru_cache(maxsize=8192)
def _allowed(ranges: Ranges, chosen: tuple[int, ...], fits: Fits, whole: frozenset[str]) -> tuple[int, ...]:
    """The values of the next number with which the axis can be completed.

    Whether numbers fit is monotone in each of them, so the ends of its range stand for the rest; those of `whole`,
    in which it is not, are looked at in full.
    """
    names = [name for name, _ in ranges]
    (_, values), *rest = ranges[len(chosen) :]
    tried = [numbers if name in whole else dict.fromkeys((numbers[0], numbers[-1])) for name, numbers in rest]
    return tuple(
        value
        for value in values
        if any(fits(**dict(zip(names, (*chosen, value, *others), strict=True))) for others in product(*tried))
    )


def possible(ranges: Mapping[str, range], fits: Fits, whole: Iterable[str] = ()) -> None:
    """Refuse bounds that leave no geometry.

    Args:
        ranges: What each number of an axis may be, by name.
        fits: Whether an axis of such numbers, given by name, is valid; monotone in all but those of `whole`.
        whole: Names of numbers in which it is not monotone.

    Raises:
        ArgumentError: No numbers fit.
    """
    if not _allowed(tuple(ranges.items()), (), fits, frozenset(whole)):
        given = ", ".join(f"{name} {values[0]} to {values[-1]}" for name, values in ranges.items())
        raise ArgumentError(
            f"the bounds leave no geometry that is valid: {given}; allow a larger size or a smaller kernel"
        )


def pick(draw: st.DrawFn, values: Sequence[int]) -> int:
    """One of these numbers, which shrinks to the first.

    It takes a choice even where there is but one: hypothesis holds fewer choices for simpler, and would shrink towards
    geometries that leave less to choose instead of smaller ones.
    """
    return values[min(draw(st.integers(0, max(1, len(values) - 1))), len(values) - 1)]


def draw_axis(
    draw: st.DrawFn,
    ranges: Mapping[str, range],
    fits: Fits,
    *,
    whole: Iterable[str] = (),
    remainder: Callable[..., int] | None = None,
) -> dict[str, int]:
    """The numbers of one axis, drawn in the order of `ranges`; each shrinks to the least that is possible.

    Args:
        draw: Of the composite strategy.
        ranges, fits, whole: As in `possible`.
        remainder: Of a complete axis. Where it is given, it is drawn before the last number, so that every remainder
            comes as often as every other.
    """
    items, fixed = tuple(ranges.items()), frozenset(whole)
    chosen: dict[str, int] = {}
    for place, (name, _) in enumerate(items):
        values = _allowed(items, tuple(chosen.values()), fits, fixed)
        if remainder is not None and place == len(items) - 1:
            wanted = pick(draw, sorted({remainder(**chosen, **{name: value}) for value in values}))
            values = tuple(value for value in values if remainder(**chosen, **{name: value}) == wanted)
        chosen[name] = pick(draw, values)
    return chosen


def draw_axes(one: Callable[[], dict[str, int]], *, square: bool) -> dict[str, tuple[int, int]]:
    """The numbers of the height and of the width as pairs; the same ones for both if `square`."""
    along_height = one()
    along_width = along_height if square else one()
    return {name: (value, along_width[name]) for name, value in along_height.items()}


class Snippet:
    """Code for `hypothesis.note`, which asks for it only where a failing example is printed."""

    def __init__(self, make: Callable[[], str]) -> None:
        self.make = make

    def __repr__(self) -> str:
        return self.make()

    def noted(self, *, show: bool) -> None:
        """Have a failing example print it, if `show`."""
        if show:
            note(self)
