"""Drawing the numbers of a geometry one after the other, so that each choice leaves the others possible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import product
from typing import Literal

from hypothesis import note
from hypothesis import strategies as st

from nn_from_scratch.errors import ArgumentError

#: One number alone, or (least, most). False stands for a kernel that knows no such thing: neither groups, say, nor
#: faults of them.
Bounds = int | tuple[int, int] | Literal[False]


def bounds(value: Bounds, *, name: str, least: int, off: int | None = None) -> range:
    """The numbers that an argument of this name allows; False stands for `off`, where that is given.

    Raises:
        ArgumentError: It is neither a number nor a pair in order, or allows less than `least`.
    """
    if value is False and off is not None:
        return range(off, off + 1)
    both = value if isinstance(value, tuple) else (value, value)
    integers = all(isinstance(n, int) and not isinstance(n, bool) for n in both)
    if len(both) != 2 or not integers or not least <= both[0] <= both[1]:
        choice = "" if off is None else ", or False"
        raise ArgumentError(
            f"{name} is {value!r}, but an integer of at least {least}, or a pair (least, most) of them{choice}, is "
            "expected"
        )
    return range(both[0], both[1] + 1)


def pick(draw: st.DrawFn, values: Sequence[int]) -> int:
    """One of these numbers, which shrinks to the first.

    It takes a choice even where there is but one: hypothesis holds fewer choices for simpler, and would shrink towards
    geometries that leave less to choose instead of smaller ones.
    """
    return values[min(draw(st.integers(0, max(1, len(values) - 1))), len(values) - 1)]


class Axis:
    """The numbers of one axis of a geometry: the ranges that they are drawn from, and which of them go together.

    Args:
        ranges: What each number may be, by name, in the order in which they are drawn; each shrinks to the least that
            is possible.
        fits: Whether numbers, given by name, make a valid axis; monotone in each of them but those of `whole`.
        whole: Names of numbers in which it is not monotone.
        remainder: Of the numbers. Where it is given, it is drawn before the last number, so that every remainder comes
            as often as every other.

    Raises:
        ArgumentError: No numbers fit.
    """

    def __init__(
        self,
        ranges: Mapping[str, range],
        fits: Callable[..., bool],
        *,
        whole: Collection[str] = (),
        remainder: Callable[..., int] | None = None,
    ) -> None:
        self._names, self._ranges = tuple(ranges), tuple(ranges.values())
        self._fits, self._whole, self._remainder = fits, whole, remainder
        self._known: dict[tuple[int, ...], tuple[int, ...]] = {}
        if not self._allowed(()):
            given = ", ".join(f"{name} {values[0]} to {values[-1]}" for name, values in ranges.items())
            raise ArgumentError(
                f"the bounds leave no geometry that is valid: {given}; allow a larger size or a smaller kernel"
            )

    def _allowed(self, chosen: tuple[int, ...]) -> tuple[int, ...]:
        """The values of the next number with which the axis can be completed."""
        if chosen not in self._known:
            place = len(chosen)
            # Where it is monotone, the ends of a range stand for the rest.
            tried = [
                values if name in self._whole else dict.fromkeys((values[0], values[-1]))
                for name, values in zip(self._names[place + 1 :], self._ranges[place + 1 :], strict=True)
            ]
            self._known[chosen] = tuple(
                value
                for value in self._ranges[place]
                if any(self._fits(**self._named(*chosen, value, *others)) for others in product(*tried))
            )
        return self._known[chosen]

    def _named(self, *numbers: int) -> dict[str, int]:
        return dict(zip(self._names, numbers, strict=True))

    def _drawn(self, draw: st.DrawFn) -> tuple[int, ...]:
        chosen: tuple[int, ...] = ()
        for place in range(len(self._names)):
            values: Sequence[int] = self._allowed(chosen)
            if self._remainder is not None and place == len(self._names) - 1:
                left = {value: self._remainder(**self._named(*chosen, value)) for value in values}
                wanted = pick(draw, sorted(set(left.values())))
                values = [value for value in values if left[value] == wanted]
            chosen = (*chosen, pick(draw, values))
        return chosen

    def drawn(self, draw: st.DrawFn, *, square: bool) -> dict[str, tuple[int, int]]:
        """The numbers of the height and of the width as pairs, by name; the same ones for both if `square`."""
        along_height = self._drawn(draw)
        along_width = along_height if square else self._drawn(draw)
        return dict(zip(self._names, zip(along_height, along_width, strict=True), strict=True))


class _Lazy:
    def __init__(self, make: Callable[[], str]) -> None:
        self.make = make

    def __repr__(self) -> str:
        return self.make()


def note_code(make: Callable[[], str], *, show: bool) -> None:
    """Have a failing example print code, if `show`; it is made only where one is printed."""
    if show:
        note(_Lazy(make))
