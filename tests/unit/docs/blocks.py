"""The fenced blocks of a Markdown page, each with what the HTML comment before it says of its test.

    <!-- test: file NAME -->      the block is that file, in the page's own folder; it is not run by itself
    <!-- test: run -->            shell: run the commands, each with exit status 0; `run, status 1`: with that one
    <!-- test: fails -->          Python: the tests defined in it are run, and every one of them fails
    <!-- test: output -->         the block is what the one before it printed
    <!-- test: not run: WHY -->   and why it cannot be

Without a comment Python is run, and so are the tests that it defines; a shell line is compared with the parser of its
command; toml, yaml and json are parsed. Other languages need a comment. `{directives}` are the site generator's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[3]

#: Every page whose blocks are tested.
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

_COMMENT = re.compile(r"<!--\s*test:\s*(?P<verb>file|run|fails|output|not run)\b[:,]?\s*(?P<rest>.*?)\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: the file that it stands in.
        line: the line of its first line of text, from 1.
        language: the first word after the fence.
        text: what it holds.
        verb, argument: of the comment before it; empty without one.
    """

    page: Path
    line: int
    language: str
    text: str
    verb: str = ""
    argument: str = ""

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in their order."""
    return read_blocks(page.read_text(encoding="utf-8"), page)


def read_blocks(text: str, page: Path) -> list[Block]:
    """The blocks of a Markdown text.

    Raises:
        ValueError: a comment that begins with `test:` is not in one of the forms above, or belongs to no block.
    """
    found: list[Block] = []
    comment: re.Match[str] | None = None
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        line = 1 + (token.map[0] if token.map else 0)
        if token.type == "html_block" and "test:" in token.content:
            comment = _COMMENT.search(token.content)
            if comment is None:
                raise ValueError(
                    f"{page.name}:{line}: {token.content.strip()} is in none of the forms of a test comment"
                )
        elif token.type == "fence":
            if not token.info.startswith("{"):
                found.append(_block(token, line, page, comment))
            comment = None
        elif comment is not None and not token.type.endswith("_close"):
            raise ValueError(f"{page.name}:{line}: {comment[0]} stands before no fenced block")
    return found


def _block(token: Token, line: int, page: Path, comment: re.Match[str] | None) -> Block:
    language = (token.info.split() or [""])[0]
    verb, argument = (comment["verb"], comment["rest"]) if comment else ("", "")
    return Block(page, line + 1, language, token.content, verb, argument)
