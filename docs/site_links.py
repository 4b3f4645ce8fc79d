"""Links within the built site: each leads to a page or file that is there, and to an anchor that the page has.

The generator checks the references that it resolves itself; what stands in the pages in the end, the theme's and the
index's links included, is looked at here, at the end of every build (`docs/conf.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["broken_links"]


class _Page(HTMLParser):
    """What a page links to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take down where an element leads and what it is called."""
        for name, value in attrs:
            if value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)
            elif value and name in ("href", "src"):
                self.targets.append(value)


def broken_links(folder: Path) -> Iterator[str]:
    """Give "page: target" for each link that leads nowhere; links to other hosts are left alone.

    Args:
        folder: of a built site.
    """
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            lost = anchor and place in pages and anchor not in pages[place].anchors
            if not place.is_file() or lost:
                yield f"{path.relative_to(folder.resolve()).as_posix()}: {target}"
