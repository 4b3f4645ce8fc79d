"""Figures: one style, from matplotlib to text that can stand in a page.

A figure is drawn twice, for a wide and for a narrow window, so that its text is as large as that of the page in both;
its ground is that of the page, and its colours follow the page's (`nn_from_scratch.report.colours`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nn_from_scratch.report import document
from nn_from_scratch.report.colours import PALETTE, themed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DASHES", "NARROW", "PALETTE", "WIDE", "drawn", "new_figure", "style", "to_svg"]

#: Widths in inches, for a window on a desk and for one on a phone.
WIDE, NARROW = 9.0, 4.8
#: One for each colour of the palette.
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
        caption: what to see.
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
    """The figure as an svg element, its colours named as in `nn_from_scratch.report.colours`."""
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return themed(text[text.index("<svg") :])
