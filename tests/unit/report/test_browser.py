"""The page in a real browser: no console message, sorting by mouse or keyboard, no overflow on a phone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nn_from_scratch.report.document import Code, Conclusion, Document, Section, Table, Text
from nn_from_scratch.report.figures import DARK, LIGHT, drawn, new_figure
from nn_from_scratch.report.rendering import to_html

MODE = os.environ.get("NNFS_BROWSER", "auto")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=2000"),
]
# What a reader would do: sort by the second column, twice; then say what the page looks like.
PROBE = """<script>
const heads = document.querySelectorAll("th button");
const column = () => [...document.querySelectorAll("tbody tr")].slice(0, 4).map(row => row.cells[0].textContent).join();
const said = [document.documentElement.scrollWidth <= innerWidth];
heads[1].focus(); said.push(document.activeElement === heads[1]);
heads[1].click(); said.push(column(), heads[1].parentElement.getAttribute("aria-sort"));
heads[1].click(); said.push(column(), heads[1].parentElement.getAttribute("aria-sort"));
heads[0].click(); said.push(column());
const shown = name => getComputedStyle(document.querySelector(name)).display !== "none";
said.push(document.querySelector("code").textContent === "command --option ".repeat(9));
said.push(shown(".for-wide") ? "wide" : "", shown(".for-narrow") ? "narrow" : "");
document.title = said.join(" ");
</script></body>"""
# The smallest text of the figure, in pixels, and the colors of text, of a curve and of the ground.
LOOKS = """<script>
const drawing = document.querySelector(innerWidth < 640 ? ".for-narrow svg" : ".for-wide svg");
const sizes = [...drawing.querySelectorAll("text")].map(text => text.getBoundingClientRect().height);
const curve = drawing.querySelector("g[id*=line2d] path[style*=series]");
const colors = [getComputedStyle(drawing.querySelector("text")).fill, getComputedStyle(curve).stroke,
  getComputedStyle(document.body).backgroundColor];
document.title = [Math.min(...sizes), ...colors.map(color => color.replaceAll(", ", ","))].join(" ");
</script></body>"""


@pytest.fixture
def browser() -> str:
    assert MODE in ("auto", "require"), f"NNFS_BROWSER is {MODE!r}, but auto or require is expected"
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        message = f"no browser: none of {', '.join(BROWSERS)} is installed"
        if MODE == "require":
            pytest.fail(f"{message}, but NNFS_BROWSER=require asks for one", pytrace=False)
        pytest.skip(message)
    return found


def load(browser: str, page: str, folder: Path, *, width: int, dark: bool = False) -> tuple[str, list[str]]:
    """The DOM after the scripts have run, and what the console says."""
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    command = [browser, *OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},800", "--dump-dom"]
    command.append(f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def title_of(dom: str) -> list[str]:
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    return title[1].split()


def page_of_a_report() -> str:
    rows = (("b", 10), ("a", 9.5), ("c", None), ("d", 100))

    def draw(width: float) -> object:
        figure = new_figure(width=width)
        figure.subplots().plot([1, 2], [3, 4])
        return figure

    figure = drawn(draw, caption="A line.", alt="a line")  # type: ignore[arg-type]  # matplotlib is imported by the callee
    sentences = Table("Lines", ("n", "command", "what"), ((1, Code("command --option " * 9), "A sentence. " * 20),))
    blocks = (Table("Numbers", ("name", "number"), rows), sentences, figure, Text("x" * 300))
    verdict = Conclusion("passed", "All is well.")
    return to_html(Document("Report", verdict, (Section("Part", blocks),), {"python": "3"}, ("command " * 40,)))


@pytest.mark.parametrize(("width", "drawing"), [(500, "narrow"), (1280, "wide")])
def test_the_page_is_silent_sorts_and_fits(browser: str, tmp_path: Path, width: int, drawing: str) -> None:
    dom, console = load(browser, page_of_a_report().replace("</body>", PROBE), tmp_path, width=width)
    assert console == []
    # An empty cell stays last, whichever way.
    assert title_of(dom) == [
        "true",
        "true",
        "a,b,d,c",
        "ascending",
        "d,b,a,c",
        "descending",
        "a,b,c,d",
        "true",
        drawing,
    ]


@pytest.mark.parametrize("width", [500, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_figures_are_legible_on_the_readers_ground(browser: str, tmp_path: Path, dark: bool, width: int) -> None:
    dom, console = load(browser, page_of_a_report().replace("</body>", LOOKS), tmp_path, width=width, dark=dark)
    assert console == []
    size, *colors = title_of(dom)
    assert float(size) >= 11
    expected = [(DARK if dark else LIGHT)[name] for name in ("ink", "series-0", "back")]
    assert colors == [f"rgb({int(c[1:3], 16)},{int(c[3:5], 16)},{int(c[5:], 16)})" for c in expected]


def test_the_console_is_heard(browser: str, tmp_path: Path) -> None:
    _, console = load(browser, "<script>console.log('heard')</script>", tmp_path, width=500)
    assert len(console) == 1 and "heard" in console[0]
