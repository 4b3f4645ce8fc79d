"""The figures of benchmarks: ratios with their intervals as a forest plot, and rounds as a scatter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nn_from_scratch.report.document import Figure
from nn_from_scratch.report.figures import PALETTE, WIDE, drawn, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing


#: Color and marker of each verdict; the marker tells them apart without the color.
_STYLES = {
    "OK": (PALETTE[2], "o"),
    "REGRESSED": (PALETTE[1], "s"),
    "INCONCLUSIVE": (PALETTE[4], "D"),
    "INVALID": (PALETTE[6], "X"),
    "": (PALETTE[0], "o"),
}
_MARKERS = "os^DvP*"
_LONGEST_NAME = 40
#: Behind a name, so that no line runs through it.
_PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}


@dataclass(frozen=True)
class RatioEstimate:
    """A ratio and its interval.

    Attributes:
        ratio: middle, lower and upper bound.
        verdict: which decides its style; may be empty.
    """

    name: str
    ratio: Sequence[float]
    verdict: str = ""


@dataclass(frozen=True)
class Series:
    """Points drawn with one style in one panel.

    Attributes:
        name: in the legend.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


def forest(estimates: Sequence[RatioEstimate], *, of: str, caption: str, limit: float | None = None) -> Figure:
    """A forest plot as a figure of a document.

    Args:
        estimates: from above to below.
        of: what is divided by what, for the axis.
        limit: a ratio that must not be passed; drawn dashed.
    """
    said = "; ".join(f"{e.name}: {e.ratio[0]:.3f} [{e.ratio[1]:.3f}, {e.ratio[2]:.3f}]" for e in estimates)
    return drawn(
        lambda width: _draw_forest(estimates, of, limit, width),
        caption=caption,
        alt=f"Ratios with intervals. {said}.",
    )


def scatter(panels: Mapping[str, Sequence[Series]], *, x: str, y: str, caption: str, alt: str) -> Figure:
    """Scatters, one panel above the other, as a figure of a document.

    Args:
        panels: what is in each, by its title.
        x, y: labels of the axes, with units.
        alt: for those who do not see it.
    """
    return drawn(lambda width: _draw_scatter(panels, x, y, width), caption=caption, alt=alt)


def _draw_forest(estimates: Sequence[RatioEstimate], of: str, limit: float | None, width: float) -> Drawing:
    """Ratios on a logarithmic axis, each with its interval as a bar and its number beside it."""
    wide = width >= WIDE
    drawing = new_figure(width=width, height=1.5 + (0.34 if wide else 0.5) * len(estimates))
    axes = drawing.subplots()
    axes.axvline(1.0, color="black", linewidth=1)
    if limit is not None:
        axes.axvline(limit, color=PALETTE[1], linewidth=1, linestyle="--", label=f"tolerated: {limit:.3g}")
    seen: set[str] = set()
    for place, estimate in enumerate(estimates):
        middle, lower, upper = estimate.ratio
        color, marker = _STYLES[estimate.verdict]
        label = estimate.verdict if estimate.verdict not in seen else None
        seen.add(estimate.verdict)
        axes.errorbar(
            middle,
            place,
            xerr=[[max(middle - lower, 0.0)], [max(upper - middle, 0.0)]],
            color=color,
            marker=marker,
            capsize=3,
            linestyle="none",
            label=label or None,
        )
        axes.annotate(
            f"{middle:#.3g}".rstrip("."),
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            annotation_clip=False,
        )
    names = [_short(estimate.name) for estimate in estimates]
    axes.set_yticks(range(len(names)), names if wide else [])
    if not wide:  # Beside the bars, names would leave them no space: they stand above.
        for place, name in enumerate(names):
            spot = (0.01, place - 0.45)
            axes.annotate(name, spot, xycoords=("axes fraction", "data"), va="center", fontsize=10, bbox=_PLATE)
    axes.set_ylim(len(estimates) - 0.5, -0.5 if wide else -0.8)
    _ratio_axis(axes, [bound for estimate in estimates for bound in estimate.ratio] + [limit or 1.0], 8 if wide else 5)
    axes.set_xlabel(f"{of}{' ' if wide else chr(10)}(log scale; left of 1 is faster)")
    if limit is not None or seen - {""}:
        drawing.legend(loc="outside upper center", ncols=5 if wide else 2)
    return drawing


def _draw_scatter(panels: Mapping[str, Sequence[Series]], x: str, y: str, width: float) -> Drawing:
    """Points by their number, one panel below the other; one legend for all."""
    names = list(dict.fromkeys(series.name for content in panels.values() for series in content))
    columns = 5 if width >= WIDE else 2
    drawing = new_figure(width=width, height=0.9 + 1.7 * len(panels) + 0.2 * math.ceil(len(names) / columns))
    rows: Any = drawing.subplots(len(panels), squeeze=False, sharex=True)
    for axes, (title, content) in zip(rows[:, 0], panels.items(), strict=True):
        for series in content:
            place = names.index(series.name)
            axes.plot(
                series.x,
                series.y,
                linestyle="none",
                marker=_MARKERS[place % len(_MARKERS)],
                markersize=4,
                alpha=0.7,
                color=PALETTE[place % len(PALETTE)],
                label=series.name,
            )
        axes.set_title(title, loc="left")
        axes.set_ylim(0, 1.08 * max(value for series in content for value in series.y))
        axes.locator_params(axis="y", nbins=4)
    rows[-1, 0].set_xlabel(x)
    rows[-1, 0].xaxis.get_major_locator().set_params(integer=True)
    drawing.supylabel(y, fontsize=11)
    handles = {h.get_label(): h for axes in rows[:, 0] for h in axes.get_lines()}
    if len(names) > 1:
        drawing.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns)
    return drawing


def _ratio_axis(axes: Axes, ratios: Sequence[float], most: int) -> None:
    """A logarithmic axis around 1, with about this many ticks at most, which are written as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axes.set_xscale("log")
    reach = max(abs(math.log(ratio)) for ratio in ratios)
    low, high = min(*ratios, 1.0), max(*ratios, 1.0)
    margin = math.exp(0.08 * max(reach, 0.05))
    axes.set_xlim(low / margin, high * margin)
    if high - low < 0.2 * most:
        axes.xaxis.set_major_locator(MaxNLocator(most - 1, steps=[1, 2, 5, 10]))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 10 ** (most / 3) else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:.3g}"))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
