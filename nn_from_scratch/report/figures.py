"""Figures: one style, from matplotlib to text that can stand in a page; and the colors of both.

A figure is drawn twice, for a wide and for a narrow window, so that its text is as large as that of the page in both.
Its background is that of the page, light or dark: a color of a figure is named in its svg by a variable, and the page
(or the svg file itself) defines it for the reader's preference. Each color has a contrast of at least 3 with its
background, and any two of them stay apart for each type of color blindness (`tests/unit/report/test_colors.py`).
Curves differ in their dashes or markers as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report import document

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Widths in inches, for a window on a desk and for one on a phone.
WIDE, NARROW = 9.0, 4.8
#: What curves and bars are drawn in: indigo, rust, green, magenta, gold, sky blue, and the color of text.
PALETTE = ("#5039a4", "#a63600", "#005a3a", "#b74d86", "#bb8c00", "#2691d1", "#000000")

_SERIES = tuple(f"series-{number}" for number in range(6))
#: Each name and its color on a light background; `ink` is text, `back` the background, `line` a grid.
LIGHT = {**dict(zip(_SERIES, PALETTE[:6], strict=True)), "ink": "#1b1f24", "back": "#ffffff", "line": "#d0d7de"}
#: The same on a dark background.
DARK = {
    **dict(zip(_SERIES, ("#3f8ccf", "#e1731e", "#4fd790", "#d783aa", "#ffd36b", "#a6cffe"), strict=True)),
    **{"ink": "#e6e9ec", "back": "#14181d", "line": "#3a434d"},
}
#: What matplotlib is told to draw in, and the name that it gets.
_NAMES = {**dict(zip(PALETTE[:6], _SERIES, strict=True)), "#000000": "ink", "#ffffff": "back", "#d0d7de": "line"}
#: One for each color of the palette.
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))

_STYLE: Any = {
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 11,
    "legend.fontsize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d0d7de",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.facecolor": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    # Text as text: it can be searched, and the page stays small. Identifiers must not change from run to run.
    "svg.fonttype": "none",
    "svg.hashsalt": "nn_from_scratch",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the shared style inside this context; the reader's own settings are as before after it."""
    from cycler import cycler
    from matplotlib import rc_context

    with rc_context(rc={**_STYLE, "axes.prop_cycle": cycler(color=PALETTE)}):
        yield


def drawn(draw: Callable[[float], Figure], *, caption: str, alt: str) -> document.Figure:
    """A figure of a document, for wide and for narrow windows.

    Args:
        draw: makes the drawing, given its width in inches.
        alt: what it shows, for those who do not see it.
    """
    with style():
        wide, narrow = (to_svg(draw(width)) for width in (WIDE, NARROW))
    return document.Figure(caption, wide, alt, narrow=narrow)


def new_figure(*, width: float = WIDE, height: float = 4.5) -> Figure:
    """An empty figure of this size in inches, laid out so that nothing overlaps; no display is needed."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure) -> str:
    """The figure as an svg element, its colors named by variables."""
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return themed(text[text.index("<svg") :])


def color_variables() -> str:
    """A style sheet that gives each name its color, by what the reader prefers."""
    light, dark = ("".join(f"--{name}:{color};" for name, color in colors.items()) for colors in (LIGHT, DARK))
    return f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def themed(svg: str) -> str:
    """Name the colors of an svg by variables, those that it has and those that it leaves to the reader's.

    Raises:
        ArgumentError: a color has no counterpart on a dark background.
    """

    def named(match: re.Match[str]) -> str:
        if match[2] not in _NAMES:
            raise ArgumentError(f"a figure has the color {match[2]}, but one of {', '.join(_NAMES)} is expected")
        return f"{match[1]}var(--{_NAMES[match[2]]})"

    found = re.sub(r"((?:fill|stroke|stop-color): ?)(#[0-9a-f]{6})", named, svg)
    # Black is what an svg has where it says nothing.
    return found.replace("<svg ", '<svg style="fill: var(--ink)" ', 1)


def standalone(svg: str) -> str:
    """A themed svg as a file of its own, with the colors and a background, so that it stays legible on any page."""
    head = re.match(r"<svg [^>]*>", svg)
    assert head is not None
    ground = '<rect width="100%" height="100%" style="fill: var(--back)"/>'
    return f"{head[0]}\n<style>\n{color_variables()}</style>\n{ground}{svg[head.end() :]}"
