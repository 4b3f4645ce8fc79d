"""The page in a real browser: no console message, sorting by mouse or keyboard, no overflow on a phone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nn_from_scratch.report import Document, Figure, Section, Table, Text, Verdict, to_html
from nn_from_scratch.report.figures import new_figure, style, to_svg

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
document.title = said.join(" ");
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


def load(browser: str, page: str, folder: Path, *, width: int) -> tuple[str, list[str]]:
    """The DOM after the scripts have run, and what the console says."""
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    command = [browser, *OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},800", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [500, 1280])
def test_the_page_is_silent_sorts_and_fits(browser: str, tmp_path: Path, width: int) -> None:
    rows = (("b", 10), ("a", 9.5), ("c", None), ("d", 100))
    with style():
        figure = new_figure()
        figure.subplots().plot([1, 2], [3, 4], label="a line")
    svg = to_svg(figure)
    blocks = (Table("Numbers", ("name", "number"), rows), Figure("A line.", svg, "a line"), Text("x" * 300))
    verdict = Verdict("passed", "All is well.")
    page = to_html(Document("Report", verdict, (Section("Part", blocks),), {"python": "3"}, ("command " * 40,)))
    dom, console = load(browser, page.replace("</body>", PROBE), tmp_path, width=width)
    assert console == []
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    # An empty cell stays last, whichever way.
    assert title[1] == "true true a,b,d,c ascending d,b,a,c descending a,b,c,d"


def test_the_console_is_heard(browser: str, tmp_path: Path) -> None:
    _, console = load(browser, "<script>console.log('heard')</script>", tmp_path, width=500)
    assert len(console) == 1 and "heard" in console[0]
