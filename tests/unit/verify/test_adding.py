"""A contract check and a form of subject are each added by one file; both are found by themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nn_from_scratch
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify.contracts import CONTRACTS, ComparisonCollector, contract
from nn_from_scratch.verify.results import CheckResult
from nn_from_scratch.verify.subjects import FORMS, Form, as_subject

PACKAGE = Path(nn_from_scratch.__file__).parent

CHECK = """
from nn_from_scratch.verify.contracts import contract

@contract(order=35)
def positive_outputs(collector):
    for name, y in collector.base.outputs.items():
        if bool((y <= 0).any()):
            collector.wrong(f"{name} is not positive", name)
        collector.agreed()
    return collector.close("there is no output")
"""

FORM = """
import torch
from nn_from_scratch.verify.subjects.autograd import AutogradSubject, TorchCall
from nn_from_scratch.verify.subjects.recognition import Form

@Form("operation", "the name of a function of torch", order=5, accepts=lambda obj: isinstance(obj, str))
def adapt_operation(target, arguments, *, name, cache=None):
    call = TorchCall(getattr(torch, target), arguments, {}, name)
    return AutogradSubject(call, target=target, name=target, form="operation", notes=(f"cache={cache}",))
"""

USE = """
import torch
from nn_from_scratch.verify import as_subject, check, check_names
from nn_from_scratch.verify.subjects import FORMS

names = check_names()
assert names[names.index("gradient_form") + 1] == "positive_outputs", names
assert list(FORMS)[:2] == ["operation", "engine module"], list(FORMS)
x = torch.linspace(-1, 1, 5, dtype=torch.float64)
for name, verdict in (("exp", "correct"), ("sin", "wrong")):
    report = check(name, x, cache=True)
    assert report.form == "operation" and "cache=True" in report.notes, report.notes
    found = {result.check: result.verdict.value for result in report.results}
    assert (found["gradient"], found["positive_outputs"]) == ("correct", verdict), str(report)
try:
    as_subject(object())
except Exception as error:
    assert "operation: the name of a function of torch" in str(error), error
"""


def test_a_file_adds_a_check_and_another_one_a_form(tmp_path: Path) -> None:
    copy = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "pretrained"))
    (copy / "verify" / "contracts" / "positive.py").write_text(CHECK, encoding="utf-8")
    (copy / "verify" / "subjects" / "operation.py").write_text(FORM, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, env=environment, check=True)


def test_a_name_that_is_taken_is_refused() -> None:
    contracts, forms = list(CONTRACTS), list(FORMS)

    def copies(collector: ComparisonCollector) -> list[CheckResult]:
        return collector.close("nothing")

    with pytest.raises(ArgumentError, match="the contract check is called 'copies', but a name that no other one has"):
        contract(order=1)(copies)
    with pytest.raises(ArgumentError, match="the form is called 'pair', but a name that no other one has"):
        Form("pair", "two functions", order=1, accepts=callable)(as_subject)
    assert (list(CONTRACTS), list(FORMS)) == (contracts, forms)
