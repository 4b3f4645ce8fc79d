"""A campaign's file: what it means, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nn_from_scratch.cli import main
from nn_from_scratch.cli.campaign_file import fingerprint, read_campaign


def write(folder: Path, text: str) -> Path:
    path = folder / "campaign.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_cases_are_made_of_dtypes_and_seeds_and_inherit_what_they_do_not_say(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [defaults]
        seed = 3
        level = "full"
        [[subject]]
        target = "layers.py:A.b"
        inputs = ["4,3"]
        dtypes = ["float64", "float32"]
        repeat = 2
        [[subject]]
        target = "package.layers:f,g"
        name = "pair"
        args = [1]
        numpy = true
        limit = 5
        [[subject.case]]
        inputs = ["2"]
        [[subject.case]]
        name = "long"
        inputs = ["9", "9:int64<5"]
        args = [2]
        seed = 0
        checks = ["-copies"]
        """,
    )
    cases = read_campaign(path)
    assert [case.id for case in cases] == [
        *("A.b/float64/seed3", "A.b/float64/seed4", "A.b/float32/seed3", "A.b/float32/seed4", "pair/0", "pair/long")
    ]
    assert cases[0].target == f"{tmp_path / 'layers.py'}:A.b" and cases[4].target == "package.layers:f,g"
    assert [case.seed for case in cases] == [3, 4, 3, 4, 3, 0]
    assert {case.level for case in cases} == {"full"}
    assert [(c.args, c.inputs, c.checks, c.numpy, c.limit, c.dtype) for c in cases[4:]] == [
        ([1], ["2"], [], True, 5, None),
        ([2], ["9", "9:int64<5"], ["-copies"], True, 5, None),
    ]


def test_the_fingerprint_covers_campaign_and_sources(tmp_path: Path) -> None:
    text = '[[subject]]\ntarget = "layers.py:f"\ninputs = ["4"]\n'
    marks = set()
    for source in ("f = 1\n", "f = 2\n"):
        (tmp_path / "layers.py").write_text(source)
        for more in ("", "seed = 1\n"):
            path = write(tmp_path, text + more)
            marks |= {fingerprint(path, read_campaign(path)) for _ in range(2)}
    assert len(marks) == 4


ONE = '[[subject]]\ntarget = "a:b"\ninputs = ["4"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [", "is not TOML: "),
        ("", "has no case: add a table [[subject]] with its target and inputs"),
        ("subject = []", "has no case"),
        ("subjects = 1", "has an unknown key 'subjects'; known are defaults, subject"),
        ("subject = 1", "the campaign has subject = 1, but tables [[subject]] are expected"),
        ("defaults = 1", "has defaults 1, but a table [defaults] is expected"),
        ("[defaults]\ntarget = 'a:b'", "[defaults] has an unknown key 'target'"),
        ("[[subject]]\ninputs = ['4']", "a [[subject]] has the target None, but package.module:name or"),
        ("[[subject]]\ntarget = 'a:b'", "[[subject]] 'a:b' has a case 'b' without inputs"),
        (ONE + "sede = 1", "[[subject]] 'a:b' has an unknown key 'sede'; known are args, case, checks"),
        (ONE + "seed = -1", "has seed = -1, but a whole number of at least 0 is expected"),
        (ONE + "seed = true", "has seed = True, but a whole number"),
        (ONE + "repeat = 0", "has repeat = 0, but a whole number of at least 1 is expected"),
        (ONE + "level = 'fast'", 'has level = \'fast\', but "quick" or "full" is expected'),
        (ONE + "limit = nan", "has limit = nan, but a positive number of seconds is expected"),
        (ONE + "dtypes = [32]", "has dtypes = [32], but a list of texts"),
        (ONE + "checks = []", "has checks = [], but a list of names"),
        (ONE + "name = 'a/b'", "has the name 'a/b', but a text without"),
        (ONE + "case = []", "the campaign has subject.case = []"),
        (ONE + ONE, "has two cases 'b': tell them apart by name"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "--campaign", str(write(tmp_path, text))]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.toml"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--campaign", "none.toml"], "campaign is 'none.toml', which cannot be read: No such file or directory"),
        (["a:b", "--campaign", "campaign.toml"], "a target is given beside --campaign, whose file says what"),
        (["--campaign", "campaign.toml", "--input", "3"], "--input is given beside --campaign"),
        (["--campaign", "campaign.toml", "--jobs", "-1"], "jobs is -1, but a number of at least 0 is expected"),
        (["--campaign", "campaign.toml", "--only", "x*"], "only is 'x*', but the id of no case in"),
        (
            ["--campaign", "campaign.toml", "--markdown", "no/where"],
            "markdown is 'no/where', but a file in an existing",
        ),
        (
            ["--campaign", "campaign.toml", "--folder", "."],
            "folder is '.', which holds something else; name a new or an empty one",
        ),
        (["--campaign", "campaign.toml", "--resume"], "'.nnfs_campaign' holds no campaign to resume; leave out"),
        ([], "the target is missing: give module:name or file.py:name, or --campaign FILE for many"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, ONE)
    assert main(["verify", *options]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.toml"]
