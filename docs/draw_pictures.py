"""Draws the pictures of the README and of the documentation: `python -m docs.draw_pictures [NAME ...]`.

    denoised      noisy, denoised and clean, a photograph that was held out, by the model that comes with the package
    sensitivity   the smallest relative error that is found, measured; two minutes
    tolerance     central differences and their extrapolation over the step
    kink          how a kink is told from a smooth function

Every number in them is computed here and now.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from nn_from_scratch.report.figures import PALETTE, standalone, style, to_svg
from nn_from_scratch.storage import write_atomically

__all__ = ["PICTURES", "main"]

FOLDER = Path(__file__).parent / "pictures"
# The colors of the reports, which the color-blind tell apart, on a light and on a dark ground.
INDIGO, RUST, GREEN = PALETTE[:3]


def draw_denoised(path: Path) -> None:
    """The picture of the README."""
    from nn_from_scratch import Denoiser
    from nn_from_scratch.denoise.data import Gaussian, read_picture
    from nn_from_scratch.denoise.data.pictures import photograph_paths
    from nn_from_scratch.denoise.scores import psnr

    _, held_out = photograph_paths()
    clean = read_picture(held_out[1])[0][None, :, 20:244, 90:340]  # (1, 3, H, W)
    noisy = Gaussian(25).corrupt(clean, torch.Generator().manual_seed(0))
    denoised = Denoiser.pretrained().predict(noisy)
    figure = Figure(figsize=(9, 3.1), layout="constrained")
    shown = (
        ("given", noisy, f"noisy, {psnr(noisy, clean):.1f} dB"),
        ("nn_from_scratch", denoised, f"denoised, {psnr(denoised, clean):.1f} dB"),
        ("never seen", clean, "clean"),
    )
    for axes, (title, image, label) in zip(figure.subplots(1, 3), shown, strict=True):
        axes.imshow(np.ascontiguousarray(image[0].permute(1, 2, 0).numpy()), interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=11)
        axes.set_xlabel(label, fontsize=11)
    _save(figure, path, dpi=96)


def draw_sensitivity(path: Path) -> None:
    """The smallest relative error that each way of checking finds with certainty, by operation."""
    from tests.bench.verifier_figures import FAULTS, OPERATIONS, detects, smallest, torch_detects, with_fault

    torch.set_num_threads(1)
    rows = [(f"{name}, {fault}", name, fault) for fault in FAULTS for name in OPERATIONS]
    found: dict[str, list[float | None]] = {"check": [], "gradcheck": [], "gradcheck, fast mode": []}
    for _, name, fault in rows:
        function, inputs = OPERATIONS[name]

        def ours(epsilon: float, seed: int) -> bool:
            return detects(with_fault(function, FAULTS[fault], epsilon), inputs(10 * seed), seed)  # noqa: B023

        def theirs(epsilon: float, seed: int, *, fast: bool) -> bool:
            return torch_detects(with_fault(function, FAULTS[fault], epsilon), inputs(10 * seed), fast=fast)  # noqa: B023

        found["check"].append(smallest(ours, 3))
        found["gradcheck"].append(smallest(lambda e, s: theirs(e, s, fast=False), 1))
        found["gradcheck, fast mode"].append(smallest(lambda e, s: theirs(e, s, fast=True), 3))
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))
    for (label, values), color, marker in zip(found.items(), (INDIGO, RUST, GREEN), "os^", strict=True):
        axes.plot([math.nan if v is None else v for v in values], places, marker, color=color, label=label, ms=8)
        for place, value in zip(places, values, strict=True):
            if value is None:
                axes.plot(0.6, place, marker, color=color, mfc="none", ms=8)
    axes.set(xscale="log", xlim=(2e-13, 1.2), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(places, [label for label, _, _ in rows])
    axes.set_xlabel("relative error of the gradient that is found with every seed (hollow: not even 0.1 is)")
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    _save(figure, path)


def draw_tolerance(path: Path) -> None:
    """The true and the estimated error over the step, of one difference and of the extrapolation."""
    from nn_from_scratch.verify.derivative.differences import ridders

    x, u = (torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))

    def delta(t: float) -> float:
        return float((torch.exp(torch.sin(x + t * u)) - torch.exp(torch.sin(x))).sum())

    true = float((torch.cos(x) * torch.exp(torch.sin(x)) * u).sum())
    noise = 2.0**-52 * float(torch.exp(torch.sin(x)).sum())
    steps = [10.0 ** (-k / 4) for k in range(48)]
    single = [abs((delta(h) - delta(-h)) / (2 * h) - true) for h in steps]
    tables = [(h, ridders(delta, h, noise)) for h in steps]
    settled = [(h, abs(table.value - true), table.error) for h, table in tables if table is not None]
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    least = 1e-16
    axes.loglog(steps, [max(e, least) for e in single], color=RUST, marker="o", ms=3, label="one central difference")
    first = [h for h, _, _ in settled]
    axes.loglog(first, [max(e, least) for _, e, _ in settled], color=INDIGO, marker="s", ms=3, label="extrapolated")
    axes.loglog(first, [e for _, _, e in settled], color=INDIGO, linestyle="--", label="its estimate of its own error")
    axes.set(xlabel="step h (the largest one, of the extrapolation)", ylabel="error of the derivative")
    axes.legend()
    _save(figure, path)


def draw_kink(path: Path) -> None:
    """A wide and a narrow step beside a kink, and the even part of the change over the step."""
    where = 0.03

    def kinked(t: Any) -> Any:
        return np.where(t > where, 1.6 * (t - where), 0.4 * (t - where)) + 0.4 * where + 0.15 * t**2

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    t = np.linspace(-0.12, 0.12, 400)
    left.plot(t, kinked(t), color=GREEN)
    for h, color, label in ((0.1, RUST, "wide step, h = 0.1"), (0.02, INDIGO, "narrow step, h = 0.02")):
        left.plot([-h, h], [kinked(-h), kinked(h)], color=color, marker="o", label=label)
    left.set(xlabel="t, along the direction", ylabel="φ(t) - φ(0)")
    left.legend()

    def smooth(t: Any) -> Any:
        return np.exp(t) - 1

    steps = np.logspace(-4, -0.5, 60)
    for function, color, marker, label in (
        (smooth, GREEN, "s", "smooth: exp(t)"),
        (kinked, RUST, "o", f"kink at t = {where}"),
    ):
        even = np.abs(function(steps) + function(-steps)) / (2 * steps)
        right.loglog(steps, even, color=color, marker=marker, ms=3, label=label)
    right.axvline(where, color=RUST, linestyle=":")
    right.set(xlabel="step h", ylabel="even part, |φ(h) + φ(-h) - 2φ(0)| / 2h")
    right.legend()
    _save(figure, path)


def _save(figure: Figure, path: Path, *, dpi: int = 100) -> None:
    if path.suffix == ".svg":
        write_atomically(path, f"{standalone(to_svg(figure)).rstrip()}\n".encode())
        return
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpg", dpi=dpi, facecolor="white", pil_kwargs={"quality": 88})
    write_atomically(path, buffer.getvalue())


#: The pictures by name: the file, and what draws it.
PICTURES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "denoised": ("denoised.jpg", draw_denoised),
    "sensitivity": ("sensitivity.svg", draw_sensitivity),
    "tolerance": ("tolerance.svg", draw_tolerance),
    "kink": ("kink.svg", draw_kink),
}


def main(names: Sequence[str], folder: Path = FOLDER) -> int:
    """Draw the pictures of these names, or all; give the exit status."""
    unknown = [name for name in names if name not in PICTURES]
    if unknown:
        sys.stderr.write(f"no picture is called {unknown[0]!r}; there are {', '.join(PICTURES)}\n")
        return 2
    folder.mkdir(exist_ok=True)
    for name in names or PICTURES:
        file, draw = PICTURES[name]
        # In photographs' figures, text is that of matplotlib; a drawing looks like those of the reports.
        with style() if file.endswith(".svg") else nullcontext():
            draw(folder / file)
        sys.stdout.write(f"{folder / file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
