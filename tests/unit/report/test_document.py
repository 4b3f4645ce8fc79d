from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.report.document import (
    Cell,
    Code,
    Commands,
    Conclusion,
    Details,
    Document,
    Figure,
    Section,
    Table,
    Text,
    format_cell,
)
from nn_from_scratch.report.figures import DASHES, PALETTE, new_figure, style, to_svg
from nn_from_scratch.report.rendering import to_html, to_markdown
from nn_from_scratch.report.results_file import envelope, environment, publish, read_results

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><g id="a"/><use href="#a"/></svg>'


def document(*blocks: object, status: str = "passed") -> Document:
    given = blocks or (
        Table("Times, in s", ("row", "time"), (("b|c", 2.0), ("<i>", Cell("1 ± 0", 1.0)), ("none", None))),
        Figure("See the line.", SVG, 'a "line"'),
        Figure("See it again.", SVG, "a line"),
        Text("One.\n\nTwo & three."),
        Commands(("a --b",)),
        Details("more", "```\ntext"),
    )
    section = Section("Part <1>", given)  # type: ignore[arg-type]  # what a test hands over
    return Document("A title", Conclusion(status, "All is well."), (section,), {"python": "3"}, ("make it",))


def test_a_table_whose_rows_do_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"rows\[0\] of the table 'T' has 1 cells, but its header has 2"):
        Table("T", ("a", "b"), (("x",),))


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(ArgumentError, match="status is 'good', but one of passed, failed"):
        Conclusion("good", "")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.123456, "0.1235"), (12, "12"), (50_000, "50 000"), ("x", "x"), (True, "yes")]
)
def test_cells_are_formatted_in_one_way(value: object, text: str) -> None:
    assert format_cell(value) == text  # type: ignore[arg-type]  # of each kind


def test_markdown_has_the_verdict_first_and_every_part() -> None:
    text = to_markdown(document())
    assert text.startswith("# A title\n\n**✅ passed**: All is well.\n\n## Part &lt;1&gt;\n")
    assert "| b\\|c | 2 |\n| &lt;i&gt; | 1 ± 0 |\n| none | – |" in text
    assert "| --- | ---: |" in text
    assert "````text\n```\ntext\n````" in text
    assert text.index("## Environment") < text.index("## Reproduce\n\n```sh\nmake it\n```")


def test_markdown_keeps_its_limit_and_says_what_it_leaves_out() -> None:
    long = document(*(Text("ü" * 600) for _ in range(10)))
    text = to_markdown(long, limit=3000)
    assert len(text.encode()) <= 3000
    assert "Some parts are left out" in text and "## Reproduce" in text
    assert "left out" not in to_markdown(long)
    with pytest.raises(ArgumentError, match="limit is 5, but at least 1000"):
        to_markdown(long, limit=5)
    table = Table("Numbers", ("name", "number"), tuple((f"row {number}", number) for number in range(300)))
    text = to_markdown(document(table), limit=2000)
    assert len(text.encode()) <= 2000
    shown = text.count("| row ")
    assert 0 < shown < 300 and f"*The first {shown} of 300 lines.*" in text


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith(("#", "data:")):
                self.outside.append(f"{tag} {name}={value}")
            if name == "id":
                self.ids.append(value or "")


def test_html_is_one_file_and_escapes_what_it_is_given() -> None:
    text = to_html(document())
    links = _Links()
    links.feed(text)
    assert not links.outside
    assert len(links.ids) == len(set(links.ids)) == 5  # three sections, and a group in each of two figures
    assert not re.search(r"@import|https?://(?!www\.w3\.org)", text)
    assert "<i>" not in text and "&lt;i&gt;" in text and 'aria-label="a &#34;line&#34;"' in text
    assert text.index("All is well.") < text.index("Part &lt;1&gt;")
    assert '<td class="number" data-value="1.0">1 ± 0</td>' in text


def test_a_figure_has_a_drawing_for_each_width_of_window() -> None:
    text = to_html(document(Figure("See it.", SVG, "wide", narrow=SVG)))
    assert text.count("<svg") == 2 and text.count('id="f0-0-0-a"') == text.count('id="f0-0-1-a"') == 1
    assert 'href="#f0-0-1-a"' in text
    assert text.index('class="for-wide"') < text.index('class="for-narrow"')
    alone = to_html(document(Figure("See it.", SVG, "wide")))
    assert 'class="for-' not in alone and alone.count("<svg") == 1


def test_tables_tell_verdicts_code_sentences_and_length_apart() -> None:
    short = to_html(document(Table("T", ("verdict", "n"), (("wrong", 1), ("unheard of", 2)))))
    assert '<td class="failed">wrong</td>' in short and "<td>unheard of</td>" in short
    assert 'class="sortable"' in short and 'class="wide tall"' not in short
    assert 'class="wide tall"' in to_html(document(Table("T", ("n",), ((1,),) * 16)))
    table = Table("T", ("n", "what", "reproduce"), ((1, "a sentence " * 5, Code("a | b <c>")),))
    page = to_html(document(table))
    assert 'class="sortable prose"' in page
    assert '<td data-name="reproduce"><code>a | b &lt;c&gt;</code></td>' in page
    markdown = to_markdown(document(table, Table("T", ("code",), ((Code("a `b`"),),))))
    assert "| `a \\| b <c>` |" in markdown and "| a \\`b\\` |" in markdown


def test_results_survive_a_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(envelope("benchmark", {"rows": []}, commands=["x"])), encoding="utf-8")
    found = read_results(path)
    assert (found["kind"], found["version"], found["results"], found["commands"]) == (
        "benchmark",
        1,
        {"rows": []},
        ["x"],
    )
    assert {"python", "torch", "platform", "cores", "nn_from_scratch"} <= set(found["environment"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "other"}, "is not of the schema nn_from_scratch/results"),
        ({"version": 2}, "has version 2, but this package reads versions up to 1"),
        ({"kind": "novel"}, "has kind 'novel'"),
    ],
)
def test_foreign_and_newer_results_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(envelope("benchmark", {}) | change), encoding="utf-8")
    with pytest.raises(ArgumentError, match=message):
        read_results(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ArgumentError, match="holds no JSON"):
        read_results(path)
    with pytest.raises(ArgumentError, match="kind is 'novel', but one of verification, benchmark"):
        envelope("novel", {})


def test_publishing_writes_both_files_and_appends_to_the_job_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    publish(document(), markdown=tmp_path / "a.md", html=tmp_path / "a.html")
    mark = "<!-- written by nn-from-scratch -->\n\n"
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == mark + to_markdown(document())
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == to_html(document())
    assert summary.read_text(encoding="utf-8") == f"before\n{to_markdown(document())}\n"


def test_figures_are_drawn_the_same_each_time_and_hold_text() -> None:
    drawn = []
    for _ in range(2):
        with style():
            figure = new_figure()
            figure.subplots().set(xlabel="epoch", ylabel="PSNR in dB")
        drawn.append(to_svg(figure))
    assert drawn[0] == drawn[1] and drawn[0].startswith("<svg") and "PSNR in dB</text>" in drawn[0]
    assert len(PALETTE) == len(DASHES)


def test_the_environment_tells_of_torch_when_asked() -> None:
    assert {"threads", "GPU"} <= set(environment(torch=True))
