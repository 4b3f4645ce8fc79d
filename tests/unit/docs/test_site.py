"""The built site: a link that leads nowhere ends the build."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from docs.site_links import broken_links
from tests.unit.docs.blocks import ROOT


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "page.html").write_text('<h1 id="head">T</h1> <a name="old">x</a>', encoding="utf-8")
    (tmp_path / "a picture.svg").write_text("<svg/>", encoding="utf-8")
    (tmp_path / "index.html").write_text(
        '<a id="top" href="#top"></a> <a href="there/page.html#head"></a> <a href="there/page.html#old"></a> '
        '<img src="a%20picture.svg"> <a href="https://example.org/#x"></a> <img src="data:,"> '
        '<a href="#gone"></a> <a href="there/page.html#gone"></a> <a href="missing.html"></a> <a href="there"></a>',
        encoding="utf-8",
    )
    assert list(broken_links(tmp_path)) == [
        "index.html: #gone",
        "index.html: there/page.html#gone",
        "index.html: missing.html",
        "index.html: there",
    ]


def test_the_build_fails_with_such_a_link(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="sphinx is not installed: tox -e docs builds the site")
    source = tmp_path / "source"
    source.mkdir()
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", str(ROOT / "docs"), "-b", "html"]
    for link, status in (("#a-heading", 0), ("missing.html", 1)):
        text = f'# A heading\n\n<a href="{link}">a link that the generator does not look at</a>\n'
        (source / "index.md").write_text(text, encoding="utf-8")
        done = subprocess.run(
            [*command, str(source), str(tmp_path / "site")], capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
    assert "a link leads nowhere: index.html: missing.html" in done.stderr
