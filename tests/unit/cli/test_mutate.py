"""`nn-from-scratch mutate` on a small project of a user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nn_from_scratch.cli import main

LAYERS = '''\
class Scale:
    """y = a x"""

    def __init__(self, a):
        self.a = a

    def forward(self, x):
        self.x = x
        return self.a * x

    def backward(self, dy):
        self.da = dy * self.x
        return dy * self.a


def halve_backward(dy):
    count = 0
    while count < 3:
        count += 1
    return dy / 2


def unused_backward(dy):
    return -dy
'''
TESTS = """\
import numpy as np
from scale_layers import Scale, halve_backward


def test_input_gradient():
    layer = Scale(3.0)
    layer.forward(np.array([1.0, 2.0]))
    assert layer.backward(np.array([1.0, 5.0])).tolist() == [3.0, 15.0]


def test_halve():
    assert halve_backward(np.array([4.0, 6.0])).tolist() == [2.0, 3.0]
"""
MORE_TESTS = """\
import numpy as np
from scale_layers import Scale


def test_parameter_gradient():
    layer = Scale(3.0)
    layer.forward(np.array([1.0, 2.0]))
    layer.backward(np.array([1.0, 5.0]))
    assert layer.da.tolist() == [1.0, 10.0]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module and two files of tests, which is the current one."""
    (tmp_path / "scale_layers.py").write_text(LAYERS, encoding="utf-8")
    (tmp_path / "test_scale.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "test_more.py").write_text(MORE_TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("project")
def test_what_no_test_kills_is_shown_with_its_diff(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["scale_layers:Scale", "--tests", "test_scale.py", "--jobs", "1", "--json", "found.json"]
    assert main(["mutate", *arguments]) == 1
    out = capsys.readouterr().out
    assert "no test kills scale_layers:Scale.backward/operator/0" in out
    assert "-        self.da = dy * self.x\n    +        self.da = dy / self.x" in out
    assert "-        return dy * self.a" not in out, "the input gradient is tested"
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert found["schema"] == "nn_from_scratch.mutation/1"
    assert found["mutants"] == found["noticed"] + len(found["survivors"])
    assert {mutant["line"] for mutant in found["survivors"] if mutant["kind"] == "source"} == {12}
    # One call, in float64, of finite numbers: no wonder.
    missed = {mutant["operator"] for mutant in found["survivors"] if mutant["kind"] == "result"}
    assert missed == {"stale", "buffer", "rounded", "float32 fault", "nan hidden"}


@pytest.mark.usefixtures("project")
def test_groups_are_compared_and_a_better_suite_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--tests", "input=test_scale.py", "--tests", "parameters=test_more.py", "--every", "--kind", "source"]
    assert main(["mutate", "scale_layers:Scale", *arguments, "--jobs", "2", "--json", "found.json"]) == 0
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert found["survivors"] == [] and found["mutants"] == 7
    assert found["noticed_first_by"] == {"input": 3, "parameters": 4}
    assert found["noticed_alone_by"] == {"input": 3, "parameters": 4}
    assert "input                  3             3  42.9 %" in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_an_endless_mutant_is_stopped_and_a_function_without_tests_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--tests", "test_scale.py", "--kind", "source", "--limit", "1", "--json", "found.json"]
    assert main(["mutate", "scale_layers:halve_backward,unused_backward", *arguments]) == 1
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    outcomes = {result["mutant"]: result["outcome"] for result in found["results"]}
    assert outcomes["scale_layers:halve_backward/assign/0"] == "timeout", "count = 1 for ever"
    assert outcomes["scale_layers:unused_backward/sign/0"] == "unreached"
    assert "of them because the time was up or the process ended" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("conftest", "outcome"),
    [
        ("import os\n\ndel os.fork\n", "killed"),
        (
            "import os\nfrom scale_layers import halve_backward\n\n"
            "def pytest_runtest_call():\n    if halve_backward(4.0) != 2.0:\n        os.kill(os.getppid(), 9)\n",
            "crashed",
        ),
    ],
    ids=["no fork", "killed worker"],
)
def test_a_worker_that_ends_is_replaced(project: Path, conftest: str, outcome: str) -> None:
    (project / "conftest.py").write_text(conftest, encoding="utf-8")
    arguments = ["--tests", "test_scale.py", "--only", "*/drop factor/0", "--jobs", "1"]
    assert main(["mutate", "scale_layers:halve_backward", *arguments, "--json", "found.json"]) == 0
    found = json.loads((project / "found.json").read_text(encoding="utf-8"))
    assert [result["outcome"] for result in found["results"]] == [outcome]


@pytest.mark.usefixtures("project")
def test_a_claim_of_equivalence_is_tried_on_the_tests(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {
        "branch/0": ("while False:", "the loop is there for nothing"),
        "comparison/0": ("while count <= 3:", "the loop is there for nothing"),
        "drop factor/0": ("return dy", "a false claim"),
    }
    entries = [
        f'[[equivalent]]\nid = "scale_layers:halve_backward/{name}"\nchange = "{change}"\nreason = "{reason}"\n'
        for name, (change, reason) in lines.items()
    ]
    Path("equivalents.toml").write_text("\n".join(entries), encoding="utf-8")
    common = ["mutate", "scale_layers:halve_backward", "--tests", "test_scale.py", "--limit", "1"]
    assert main([*common, "--equivalents", "equivalents.toml", "--only", "*[bcd][ro][mao][npn]*/*"]) == 1
    out = capsys.readouterr().out
    assert "scale_layers:halve_backward/branch/0: the loop is there for nothing" in out
    assert "claimed to be equivalent, but killed: scale_layers:halve_backward/drop factor/0 by test_scale.py" in out


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('id = "scale_layers:Scale.backward/operator/9"\nchange = "x"', "there is no such mutant: remove the entry"),
        ('id = "scale_layers:Scale.backward/operator/0"\nchange = "x"', "but it is 'self.da = dy / self.x' now"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_stale_claim_is_refused(entry: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("old.toml").write_text(f'[[equivalent]]\n{entry}\nreason = "r"\n', encoding="utf-8")
    arguments = ["scale_layers:Scale", "--tests", "test_scale.py", "--equivalents", "old.toml", "--jobs", "1"]
    assert main(["mutate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_interrupted_run_is_resumed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["mutate", "scale_layers:Scale,unused_backward", "--tests", "test_scale.py", "--jobs", "1"]
    command = [sys.executable, "-m", "nn_from_scratch", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project), *sys.path])}
    results = project / ".nnfs_mutation" / "results.jsonl"
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(12_000):
        if results.exists() and results.read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=600) == 130
    done = results.read_bytes()
    results.write_bytes(done + b'{"mutant": "cut o')  # as a crash in the midst of a line would leave it
    mutants = [json.loads(line)["mutant"] for line in done.splitlines()]
    assert mutants
    assert main([*arguments, "--resume", "--json", "found.json"]) == 1
    found = json.loads((project / "found.json").read_text(encoding="utf-8"))
    again = [result["mutant"] for result in found["results"]]
    assert again[: len(mutants)] == mutants and len(set(again)) == len(again) == found["mutants"] > len(mutants)
    capsys.readouterr()
    (project / "scale_layers.py").write_text(LAYERS.replace("dy * self.a", "self.a * dy"), encoding="utf-8")
    assert main([*arguments, "--resume"]) == 2
    assert "holds a run over other sources, targets or tests; leave out --resume" in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_a_resumed_run_tries_a_new_test_on_what_was_left_and_on_nothing_else() -> None:
    arguments = ["mutate", "scale_layers:Scale", "--tests", ".", "--kind", "source", "--jobs", "1"]
    later = Path("test_more.py").read_text(encoding="utf-8")
    Path("test_more.py").unlink()
    assert main(arguments) == 1
    results = Path(".nnfs_mutation", "results.jsonl")
    first = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    Path("test_more.py").write_text(later, encoding="utf-8")
    Path("scale_layers.py").write_text(f"VERSION = 2\n{LAYERS}", encoding="utf-8")  # the functions are as they were
    assert main([*arguments, "--resume"]) == 0
    again = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()][len(first) :]
    left = [result["mutant"] for result in first if result["outcome"] == "survived"]
    assert [(result["mutant"], result["outcome"]) for result in again] == [(mutant, "killed") for mutant in left] != []
    assert {result["test"] for result in again} == {"test_more.py::test_parameter_gradient"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere:Scale"], "there is no module 'nowhere'"),
        (["scale_layers:Scale", "--tests", "nowhere"], "tests is 'nowhere', but there is no 'nowhere'"),
        (["scale_layers:Scale", "--tests", "a=test_more.py", "--tests", "a=test_scale.py"], "names two groups 'a'"),
        (["scale_layers:Scale", "--jobs", "0"], "jobs is 0, but at least 1 is expected"),
        (["scale_layers:Scale", "--limit", "0"], "limit is 0.0, but a positive number of seconds is expected"),
        (["scale_layers:Scale", "--json", "no/such.json"], "json is 'no/such.json', but a file in an existing folder"),
        (["scale_layers:Scale", "--folder", "."], "folder is '.', which holds something else"),
        (["scale_layers:Scale", "--resume"], "'.nnfs_mutation' holds no run to resume"),
        (["scale_layers:Scale", "--equivalents", "no.toml"], "equivalents is 'no.toml', which cannot be read"),
    ],
)
@pytest.mark.usefixtures("project")
def test_bad_input_gets_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutate", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("nn-from-scratch: error: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("def test_it():\n    assert False\n", "1 tests fail without any mutant, the first is test_bad.py::test_it"),
        ("import nowhere\n", "the tests cannot be collected; pytest's own words are in "),
        ("x = 1\n", "there are no tests to run: pytest collected none"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_suite_that_does_not_pass_is_refused(tests: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("test_bad.py").write_text(tests, encoding="utf-8")
    assert main(["mutate", "scale_layers:Scale", "--tests", "test_bad.py", "--jobs", "1"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_mutants_can_be_listed_without_running_anything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutate", "scale_layers:unused_backward", "--list"]) == 0
    assert capsys.readouterr().out == (
        "scale_layers:unused_backward/sign/0\n--- a/scale_layers.py\n+++ b/scale_layers.py\n@@ -23,2 +23,2 @@\n"
        " def unused_backward(dy):\n-    return -dy\n+    return dy\n\n"
    )


@pytest.mark.usefixtures("project")
def test_reference_suites_are_compared_and_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--tests", "input=test_scale.py", "--beside", "parameters=test_more.py", "--kind", "source"]
    assert main(["mutate", "scale_layers:Scale", *arguments, "--jobs", "1", "--json", "found.json"]) == 1
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert found["noticed_first_by"] == {"input": 3} and found["noticed_alone_by"] == {"parameters": 4}
    assert len(found["survivors"]) == 4
    assert "parameters     reference             4  57.1 %" in capsys.readouterr().out
    assert main(["mutate", "scale_layers:Scale", "--tests", "test_scale.py", "--beside", "test_scale.py"]) == 2
    assert "beside names a group 'test_scale.py', which tests names too" in capsys.readouterr().err
