"""The colours of pages and figures, on a light and on a dark ground.

A colour of a figure is named in its svg by a variable, and the page (or the svg file itself) says what that is on the
reader's ground. Each colour has a contrast of at least 3 with its ground, and any two of them stay apart for each
kind of colour-blindness (`tests/unit/report/test_colours.py`). Curves differ in their dashes or markers as well.
"""

from __future__ import annotations

import re

from nn_from_scratch.errors import ArgumentError

__all__ = ["DARK", "LIGHT", "PALETTE", "color_variables", "standalone", "themed"]

#: What curves and bars are drawn in: indigo, rust, green, magenta, gold, sky blue, and the colour of text.
PALETTE = ("#5039a4", "#a63600", "#005a3a", "#b74d86", "#bb8c00", "#2691d1", "#000000")

_SERIES = tuple(f"series-{number}" for number in range(6))
#: Each name and its colour on a light ground; `ink` is text, `back` the ground, `line` a grid.
LIGHT = {**dict(zip(_SERIES, PALETTE[:6], strict=True)), "ink": "#1b1f24", "back": "#ffffff", "line": "#d0d7de"}
#: The same on a dark ground.
DARK = {
    **dict(zip(_SERIES, ("#3f8ccf", "#e1731e", "#4fd790", "#d783aa", "#ffd36b", "#a6cffe"), strict=True)),
    **{"ink": "#e6e9ec", "back": "#14181d", "line": "#3a434d"},
}
#: What matplotlib is told to draw in, and the name that it gets.
_NAMES = {**dict(zip(PALETTE[:6], _SERIES, strict=True)), "#000000": "ink", "#ffffff": "back", "#d0d7de": "line"}


def color_variables() -> str:
    """A style sheet that gives each name its colour, by what the reader prefers."""
    light, dark = ("".join(f"--{name}:{color};" for name, color in colors.items()) for colors in (LIGHT, DARK))
    return f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def themed(svg: str) -> str:
    """Name the colours of an svg by variables, those that it has and those that it leaves to the reader's.

    Raises:
        ArgumentError: a colour has no counterpart on a dark ground.
    """

    def named(match: re.Match[str]) -> str:
        if match[2] not in _NAMES:
            raise ArgumentError(f"a figure has the colour {match[2]}, but one of {', '.join(_NAMES)} is expected")
        return f"{match[1]}var(--{_NAMES[match[2]]})"

    found = re.sub(r"((?:fill|stroke|stop-color): ?)(#[0-9a-f]{6})", named, svg)
    # Black is what an svg has where it says nothing.
    return found.replace("<svg ", '<svg style="fill: var(--ink)" ', 1)


def standalone(svg: str) -> str:
    """A themed svg as a file of its own, with the colours and a ground, so that it stays legible on any page."""
    head = re.match(r"<svg [^>]*>", svg)
    assert head is not None
    ground = '<rect width="100%" height="100%" style="fill: var(--back)"/>'
    return f"{head[0]}\n<style>\n{color_variables()}</style>\n{ground}{svg[head.end() :]}"
