"""The colors of figures: legible on both grounds, told apart by the color-blind, and known in both."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report.figures import (
    DARK,
    DASHES,
    LIGHT,
    PALETTE,
    color_variables,
    drawn,
    new_figure,
    standalone,
    themed,
)
from nn_from_scratch.report.rendering import to_html
from tests.unit.report.test_document import document

# Machado, Oliveira, Fernandes: "A physiologically-based model for simulation of color vision deficiency" (2009).
SIGHT = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])
GROUNDS = pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])


def linear(color: str) -> np.ndarray:
    """Linear red, green and blue."""
    channels = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    low, high = sorted(float(linear(color) @ TO_XYZ[1]) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b*, in which a distance of about 2 is just seen."""
    x = TO_XYZ @ rgb.clip(0, 1) / WHITE
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@GROUNDS
def test_lines_stand_out_from_their_ground(colors: dict[str, str]) -> None:
    for name, color in colors.items():
        least = {"ink": 7.0, "back": 1.0, "line": 1.0}.get(name, 3.0)
        assert contrast(color, colors["back"]) >= least, name


@GROUNDS
@pytest.mark.parametrize("sight", SIGHT)
def test_no_two_lines_look_alike(colors: dict[str, str], sight: str) -> None:
    seen = {name: lab(SIGHT[sight] @ linear(color)) for name, color in colors.items() if name not in ("back", "line")}
    for one, other in combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 20, (one, other)


def test_a_figure_names_its_colors_and_the_page_knows_them() -> None:
    def draw(width: float) -> object:
        figure = new_figure(width=width)
        axes = figure.subplots()
        for place, color in enumerate(PALETTE):
            axes.plot([0, 1], [0, place], color=color, linestyle=DASHES[place])
        return figure

    figure = drawn(draw, caption="Lines.", alt="lines")  # type: ignore[arg-type]  # matplotlib is imported by the callee
    assert figure.svg != figure.narrow
    for svg in (figure.svg, figure.narrow):
        assert not re.search(r"#[0-9a-f]{6}\b", svg)
        assert set(re.findall(r"var\(--([\w-]+)\)", svg)) == LIGHT.keys() - {"back"}
    page = to_html(document(figure))
    assert all(page.count(f"--{name}:") == 2 for name in LIGHT) and LIGHT.keys() == DARK.keys()


def test_a_color_without_a_counterpart_is_refused() -> None:
    with pytest.raises(ArgumentError, match="a figure has the color #123456, but one of #5039a4"):
        themed('<svg width="1"><path style="fill: #123456"/></svg>')


def test_a_file_of_its_own_has_its_colors_and_ground() -> None:
    text = standalone(themed('<svg width="1"><path style="stroke: #000000"/></svg>'))
    assert text.startswith('<svg style="fill: var(--ink)" width="1">\n<style>')
    assert color_variables() in text and 'style="fill: var(--back)"/><path style="stroke: var(--ink)"/>' in text
