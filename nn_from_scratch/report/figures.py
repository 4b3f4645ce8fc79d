"""Figures: one style, from matplotlib to text that can stand in a page.

The palette is that of Okabe and Ito, which the colour-blind can tell apart; curves differ in their dashes as well. A
figure keeps its white ground in dark mode, so that what was drawn for paper stays legible.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DASHES", "PALETTE", "new_figure", "style", "to_png", "to_svg"]

#: Blue, vermilion, bluish green, reddish purple, orange, sky blue, black.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
#: One for each colour of the palette.
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))

_STYLE: Any = {
    "font.size": 11,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "legend.frameon": False,
    # Text as text: it can be searched, and the page stays small. Identifiers must not change from run to run.
    "svg.fonttype": "none",
    "svg.hashsalt": "nn_from_scratch",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the shared style inside this context; the reader's own settings are as before after it."""
    import matplotlib as mpl

    with mpl.rc_context(rc=_STYLE):
        yield


def new_figure(*, width: float = 8.0, height: float = 4.5) -> Figure:
    """An empty figure of this size in inches, laid out so that nothing overlaps; no display is needed."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure) -> str:
    """The figure as an svg element."""
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def to_png(figure: Figure, *, dpi: int = 120) -> bytes:
    """The figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
