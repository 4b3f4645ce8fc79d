"""What runs the pages finds what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.docs.blocks import ROOT, read_blocks
from tests.unit.docs.outputs import difference
from tests.unit.docs.running import PageError, run_blocks


def page(*blocks: str) -> str:
    """A page of blocks, each as `comment|language|text`, with " / " for a line's end."""
    lines = []
    for block in blocks:
        comment, language, text = block.split("|", 2)
        lines += [f"<!-- test: {comment} -->"] * bool(comment)
        lines += [f"```{language}", *text.split(" / "), "```", ""]
    return "\n".join(lines)


def run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: pytest.Config) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(read_blocks(text, Path("page.md")), tmp_path, config)


RIGHT = {
    "python": page("|python|x = 1", "|python|assert x == 1"),
    "output": page("|python|print(2.0, 'in 3 s')", "output|text|2.0 in 7 s"),
    "omitted lines": page("|python|for i in range(9): print(i)", "output|text|0 / ... / 8"),
    "file": page("file mine.py|python|x = 3", "|python|import mine / assert mine.x == 3"),
    "command": page("|sh|nn-from-scratch train --epochs 1  # a comment / tox -e lint,types && git status"),
    "tests": page("|python|def test_it(tmp_path): /     assert tmp_path.exists()"),
    "failing tests": page("fails|python|def test_it(tmp_path): /     assert False"),
    "other languages": page("|toml|x = 1", "|yaml|x: 1", '|json|{"x": 1}'),
    "not run": page("not run: it needs two machines|cuda|x"),
    "run": page("run|sh|nn-from-scratch --version", "output|text|nn-from-scratch ..."),
    "a status": page("run, status 2|sh|nn-from-scratch verify missing.py:x --input 3"),
}

WRONG = {
    "python": (page("|python|x = 1", "|python|assert x == 2"), r"page\.md:6: AssertionError"),
    "output": (page("|python|print(2.0)", "output|text|2.5"), "printed was something else"),
    "output of nothing": (page("output|text|2.0"), "nothing was run before"),
    "option": (page("|sh|nn-from-scratch train --epoch-count 1"), "unrecognized arguments"),
    "command": (page("|sh|nn-from-scratch trian"), "invalid choice: 'trian'"),
    "environment": (page("|sh|tox -e lnit"), "tox knows no lnit"),
    "pytest option": (page("|sh|pytest --nnfs-gpo=off"), "pytest has no option --nnfs-gpo"),
    "test file": (page("|sh|pytest tests/nowhere"), "there is no tests/nowhere"),
    "module": (page("|sh|python -m nn_from_scratch_x"), "there is no module"),
    "file": (page("|sh|python examples/nothing.py"), "there is no examples/nothing.py"),
    "extra": (page("|sh|python -m pip install -e .[devel]"), "there is no extra devel"),
    "program": (page("|sh|rm -rf here"), "nobody here knows the command 'rm'"),
    "tests": (page("|python|def test_it(tmp_path): /     assert False"), "pytest ended with 1"),
    "tests that pass": (page("fails|python|def test_it(tmp_path): /     pass"), "pytest ended with 0"),
    "some tests pass": (
        page("fails|python|def test_it(tmp_path): /     pass / def test_more(tmp_path): /     assert False"),
        "some of its tests pass",
    ),
    "language": (page("|text|anything"), "a block of text needs a comment"),
    "no reason": (page("not run: no|text|anything"), "say why"),
    "toml": (page("|toml|x ="), "TOMLDecodeError"),
    "status": (page("run|sh|nn-from-scratch verify missing.py:x --input 3"), "ended with 2, not 0"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    run(RIGHT[name], tmp_path, monkeypatch, pytestconfig)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    text, message = WRONG[name]
    with pytest.raises(PageError, match=message):
        run(text, tmp_path, monkeypatch, pytestconfig)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- test: rnu -->\n```sh\nls\n```\n", "none of the forms"),
        ("<!-- test: run -->\n\nText.\n", "no fenced block"),
    ],
)
def test_a_comment_that_says_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_blocks(text, Path("page.md"))


def test_directives_of_the_site_are_no_code() -> None:
    assert read_blocks("```{toctree}\nx\n```\n", ROOT / "page.md") == []


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("in 0.3 s; margin 3.5e+11", "in 12 s; margin 2.8e+9", True),
        ("analytic 0.2696", "analytic 0.2701", True),
        ("analytic 0.2696", "analytic 0.2896", False),
        ("20 of 20 entries", "19 of 20 entries", False),
        ("a\n  ...\nz", "a\nb\nc\nz", True),
        ("a\n  ...\nz", "a\nb", False),
        ("3 wrong, 7 not applicable", "3 wrong, 6 not applicable", True),
        ("3 wrong", "2 wrong", False),
    ],
)
def test_an_output_may_differ_in_timings_and_rounding_alone(shown: str, printed: str, same: bool) -> None:
    assert (difference(shown, printed) is None) is same
