"""The figures of the reproduction, as svg."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nn_from_scratch.report.figures import DASHES, PALETTE, new_figure, style, to_svg
from nn_from_scratch.reproduction.plan import OPTIMIZERS, OURS, THEIRS

__all__ = ["draw_curves", "draw_final", "draw_memory", "draw_parity", "draw_table"]

_MARKERS = ("o", "s", "^")
#: Behind a number, so that no line runs through it.
_PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}


def draw_parity(part: Mapping[str, Any]) -> str:
    """Largest error of the gradient that each layer hands on."""
    with style():
        figure = new_figure(height=4.2)
        axes = figure.subplots()
        for place, (dtype, rows) in enumerate(part.items()):
            handed = [row for row in rows if row["quantity"] == "handed on"]
            names = [row["layer"] for row in handed]
            axes.plot(
                names,
                [row["error"] for row in handed],
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
        return to_svg(figure)


def draw_table(part: Mapping[str, Any]) -> str:
    """Ratios to eager PyTorch, with the published one."""
    optimizers = list(dict.fromkeys(timing["optimizer"] for timing in part["timings"]))
    rows = list(dict.fromkeys(timing["row"] for timing in part["timings"]))
    ratios = {(t["row"], t["optimizer"]): t["ratio"] for t in part["timings"] if t["ratio"]}
    with style():
        figure = new_figure(height=1.2 + 0.28 * (len(rows) + 1) * len(optimizers))
        axes = figure.subplots()
        width = 0.8 / (len(rows) + 1)
        for place, row in enumerate([*rows, "the report"]):
            bars = []
            for number, optimizer in enumerate(optimizers):
                if row == "the report" and optimizer in part["report"]:
                    ours, theirs = part["report"][optimizer]
                    bars.append((number, ours[0] / theirs[0]))
                elif (row, optimizer) in ratios:
                    bars.append((number, ratios[row, optimizer][0]))
            axes.barh(
                [number + place * width for number, _ in bars],
                [ratio for _, ratio in bars],
                height=width,
                color=PALETTE[place % len(PALETTE)],
                label=row,
            )
            for number, ratio in bars:
                axes.text(ratio, number + place * width, f" {ratio:.2f}", va="center", fontsize=8, bbox=_PLATE)
        axes.axvline(1, color="black", linewidth=1)
        axes.set_yticks([number + 0.4 - width / 2 for number in range(len(optimizers))], optimizers)
        axes.invert_yaxis()
        axes.set(xlabel="seconds of an epoch / seconds of eager PyTorch")
        figure.legend(loc="outside lower center", ncols=3)
        return to_svg(figure)


def draw_curves(curves: Mapping[tuple[str, str], Sequence[Sequence[float]]]) -> str:
    """PSNR over epochs: ours as lines with bands, torch's means as markers."""
    with style():
        figure = new_figure(height=5)
        axes = figure.subplots()
        for place, name in enumerate(OPTIMIZERS):
            ours, theirs = (list(zip(*curves[name, side], strict=True)) for side in (OURS, THEIRS))
            epochs = range(1, len(ours) + 1)
            color = PALETTE[place]
            axes.fill_between(epochs, [min(v) for v in ours], [max(v) for v in ours], color=color, alpha=0.2)
            axes.plot(
                epochs, [statistics.fmean(v) for v in ours], color=color, linestyle=DASHES[place], label=f"{name}, ours"
            )
            axes.plot(
                epochs,
                [statistics.fmean(v) for v in theirs],
                color=color,
                linestyle="",
                marker=_MARKERS[place],
                markerfacecolor="none",
                label=f"{name}, torch.nn",
            )
        axes.set(xlabel="epoch", ylabel="validation PSNR in dB")
        _whole_epochs(axes)
        figure.legend(loc="outside lower center", ncols=3)
        return to_svg(figure)


def draw_final(history: Sequence[Mapping[str, Any]], noisy_psnr: float) -> str:
    """Loss and PSNR of the final model."""
    epochs = [result["epoch"] for result in history]
    with style():
        figure = new_figure(width=9, height=4)
        left, right = figure.subplots(1, 2)
        left.plot(epochs, [result["loss"] for result in history], marker="o", color=PALETTE[0])
        left.set(xlabel="epoch", ylabel="training loss (mean squared error)")
        right.plot(epochs, [result["psnr"] for result in history], marker="s", color=PALETTE[1], label="denoised")
        right.axhline(noisy_psnr, color="black", linestyle="--", label="noisy input")
        right.set(xlabel="epoch", ylabel="validation PSNR in dB")
        right.legend()
        for axes in (left, right):
            _whole_epochs(axes)
        return to_svg(figure)


def draw_memory(part: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Megabytes kept at each point of a step."""
    with style():
        figure = new_figure(height=3.8)
        axes = figure.subplots()
        for place, side in enumerate((OURS, THEIRS)):
            sizes = [part[side][key] * 1e-6 for key in names]
            spots = [number + 0.4 * place for number in range(len(names))]
            axes.barh(spots, sizes, height=0.38, color=PALETTE[place], label=side)
            for spot, size in zip(spots, sizes, strict=True):
                axes.text(size, spot, f" {size:.1f}", va="center", fontsize=9)
        axes.set_yticks([number + 0.2 for number in range(len(names))], list(names.values()))
        axes.invert_yaxis()
        axes.set(xlabel="kept for the backward pass, in MB")
        axes.margins(x=0.1)
        axes.legend()
        return to_svg(figure)


def _whole_epochs(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
