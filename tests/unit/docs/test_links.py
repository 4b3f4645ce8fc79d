"""Links between pages, to files and to headings lead somewhere; pictures are there, small and described."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from docs.draw_pictures import PICTURES, main
from tests.unit.docs.blocks import PAGES, ROOT

DOCUMENTS = [*PAGES, ROOT / "CHANGELOG.md"]


def inline_tokens(page: Path) -> list[Token]:
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return [child for token in tokens for child in token.children or ()]


def targets(page: Path) -> list[str]:
    """Where the links and pictures of a page lead."""
    found = [token.attrGet("href") or token.attrGet("src") for token in inline_tokens(page)]
    return [str(target) for target in found if target]


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get, on the hoster's pages and on the site alike."""
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for target in targets(page):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken(page)


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A heading, `code`\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md) [b](there.md#a-heading-code) [c](missing.md) [d](there.md#nothing) ![e](missing.png)\n"
        "[f](#here)\n\n# Here\n",
        encoding="utf-8",
    )
    assert broken(page) == ["missing.md", "there.md#nothing", "missing.png"]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pictures_are_described_and_have_a_caption(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for token in inline_tokens(page):
        if token.type == "image":
            assert len(token.content) > 40, f"the picture {token.attrGet('src')} says too little to who cannot see it"
            assert re.search(rf"{re.escape(str(token.attrGet('src')))}\)\n\n\*\S", text), (
                "a caption follows, in italics"
            )


def test_the_pictures_are_those_that_the_script_draws_and_are_small() -> None:
    folder = ROOT / "docs" / "pictures"
    assert {path.name for path in folder.iterdir()} == {file for file, _ in PICTURES.values()}
    assert all(path.stat().st_size < 150_000 for path in folder.iterdir())


def test_a_picture_is_drawn_again_byte_for_byte(tmp_path: Path) -> None:
    for name in ("one", "other"):
        assert main(["kink"], folder=tmp_path / name) == 0
    one, other = (tmp_path / name / "kink.svg" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_an_unknown_picture_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knik"], folder=tmp_path / "none") == 2
    assert "no picture is called 'knik'; there are denoised, sensitivity" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
