"""The figures of the reproduction, each for a width in inches; `nn_from_scratch.report.figures.drawn` calls them."""

from __future__ import annotations

import base64
import io
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nn_from_scratch.denoise.run_figures import plot_history
from nn_from_scratch.denoise.settings import EpochResult
from nn_from_scratch.report.figures import DASHES, PALETTE, WIDE, new_figure
from nn_from_scratch.reproduction.parts import OPTIMIZERS, OURS, THEIRS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_MARKERS = ("o", "s", "^")
_PUBLISHED = "the report's own, as published"


def draw_parity(part: Mapping[str, Any], width: float) -> Figure:
    """Largest error of the gradient that each layer propagates."""
    figure = new_figure(width=width, height=4.2)
    axes = figure.subplots()
    for place, (dtype, rows) in enumerate(part.items()):
        propagated = [row for row in rows if row["quantity"] == "propagated"]
        names = [row["layer"] for row in propagated]
        axes.plot(
            names,
            [row["error"] for row in propagated],
            marker=_MARKERS[place],
            color=PALETTE[place],
            linestyle=DASHES[place],
            label=dtype,
        )
    smallest = min((row["error"] for rows in part.values() for row in rows if row["error"]), default=1e-18)
    # Zero has a place on this scale, and the first gradient of the chain may be exactly that.
    axes.set_yscale("symlog", linthresh=smallest)
    axes.set(xlabel="layer (place and class)", ylabel="largest |ours - torch|")
    for label in axes.get_xticklabels():
        label.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.legend()
    return figure


def draw_table(part: Mapping[str, Any], width: float) -> Figure:
    """Ratios to eager PyTorch with their intervals, and the published ones."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    optimizers = list(dict.fromkeys(timing["optimizer"] for timing in part["timings"]))
    rows = list(dict.fromkeys(timing["row"] for timing in part["timings"]))
    ratios = {(t["row"], t["optimizer"]): t["ratio"] for t in part["timings"] if t["ratio"]}
    names = [*rows, _PUBLISHED]
    for optimizer, (ours, theirs) in part["report"].items():
        ratios[_PUBLISHED, optimizer] = [ours[0] / theirs[0]] * 3
    figure = new_figure(width=width, height=1.6 + 0.55 * len(names))
    axes = figure.subplots()
    axes.axvline(1, color="black", linewidth=1)
    for place, optimizer in enumerate(optimizers):
        found = [(spot, ratios[name, optimizer]) for spot, name in enumerate(names) if (name, optimizer) in ratios]
        middles = [middle for _, (middle, _, _) in found]
        axes.errorbar(
            middles,
            [spot + 0.22 * (place - 1) for spot, _ in found],
            xerr=[[m - low for _, (m, low, _) in found], [high - m for _, (m, _, high) in found]],
            color=PALETTE[place],
            marker=_MARKERS[place],
            capsize=2,
            linestyle="none",
            label=optimizer,
        )
    for spot, name in enumerate(names):
        numbers = " ".join(f"{ratios[name, o][0]:.2f}" for o in optimizers if (name, o) in ratios)
        axes.annotate(numbers, (1.02, spot), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.set_xlim(0.45, 7)
    axes.set_yticks(range(len(names)), [_wrapped(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set(xlabel="seconds of an epoch / seconds of eager PyTorch\n(log scale; left of 1 is faster)")
    figure.legend(loc="outside upper center", ncols=_columns(width))
    return figure


def draw_curves(curves: Mapping[tuple[str, str], Sequence[Sequence[float]]], width: float) -> Figure:
    """PSNR over epochs: ours as lines with bands, torch's means as markers."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(width=width, height=5)
    axes = figure.subplots()
    for place, name in enumerate(OPTIMIZERS):
        ours, theirs = (list(zip(*curves[name, side], strict=True)) for side in (OURS, THEIRS))
        epochs = range(1, len(ours) + 1)
        color = PALETTE[place]
        axes.fill_between(epochs, [min(v) for v in ours], [max(v) for v in ours], color=color, alpha=0.2)
        axes.plot(epochs, [statistics.fmean(v) for v in ours], color=color, linestyle=DASHES[place], label=name)
        axes.plot(
            epochs,
            [statistics.fmean(v) for v in theirs],
            color=color,
            linestyle="",
            marker=_MARKERS[place],
            markerfacecolor="none",
        )
    axes.plot([], [], color="black", linestyle="", marker="o", markerfacecolor="none", label="torch.nn")
    axes.set(xlabel="epoch", ylabel="validation PSNR in dB")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(loc="outside lower center", ncols=_columns(width))
    return figure


def draw_final(history: Sequence[Mapping[str, Any]], noisy_psnr: float, width: float) -> Figure:
    """Loss and PSNR of the final model."""
    figure = new_figure(width=width, height=4 if width >= WIDE else 7)
    axes = figure.subplots(1, 2) if width >= WIDE else figure.subplots(2, 1)
    plot_history(axes, [EpochResult(**result) for result in history], noisy_psnr=noisy_psnr)
    return figure


def draw_memory(part: Mapping[str, Any], names: Mapping[str, str], width: float) -> Figure:
    """Megabytes kept at each point of a step."""
    figure = new_figure(width=width, height=3.8)
    axes = figure.subplots()
    for place, side in enumerate((OURS, THEIRS)):
        sizes = [part[side][key] * 1e-6 for key in names]
        spots = [number + 0.4 * place for number in range(len(names))]
        axes.barh(spots, sizes, height=0.38, color=PALETTE[place], label=side)
        for spot, size in zip(spots, sizes, strict=True):
            axes.text(size, spot, f" {size:.1f}", va="center", fontsize=10)
    axes.set_yticks([number + 0.2 for number in range(len(names))], [_wrapped(name) for name in names.values()])
    axes.invert_yaxis()
    axes.set(xlabel="kept for the backward pass, in MB")
    axes.margins(x=0.1)
    axes.legend(loc="lower right")
    return figure


def draw_photographs(rows: Sequence[Mapping[str, Any]], width: float) -> Figure:
    """Rows of small pictures, each with its PSNR below it; the first three columns in a narrow window."""
    from matplotlib.image import imread

    columns = len(rows[0]["psnr"]) if width >= WIDE else min(len(rows[0]["psnr"]), 3)
    figure = new_figure(width=width, height=len(rows) * (width / (columns + 0.4) + 0.28))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        strip = imread(io.BytesIO(base64.b64decode(row["png"])))  # (H, number x H, C)
        size = len(strip)
        for number, place in enumerate(line):
            # As it is: whoever shows the page enlarges the pixels.
            place.imshow(strip[:, number * size : (number + 1) * size], interpolation="none")
            place.set(xticks=[], yticks=[])
            place.spines[:].set_visible(False)
            if row["name"] != "clean":
                place.set_xlabel(f"{row['psnr'][number]:.1f} dB")
        line[0].set_ylabel(row["name"])
    return figure


def _columns(width: float) -> int:
    """Entries in a line of a legend."""
    return 3 if width >= WIDE else 2


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 18))
