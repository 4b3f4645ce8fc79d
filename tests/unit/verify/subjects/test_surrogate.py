"""Backward passes that are declared as the derivative of another function than their forward."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.cli import main
from nn_from_scratch.errors import ArgumentError
from nn_from_scratch.verify import Verdict, check
from tests.functions import draw, function

straight_through = function(torch.round, lambda g, x: g, name="StraightThrough")
reversal = function(lambda x: x.clone(), lambda g, x: -0.5 * g, name="Reversal")
clipped = function(torch.sign, lambda g, x: g * (x.abs() <= 1), name="Clipped")
spike = function(lambda x: (x > 0).to(x.dtype), lambda g, x: g / (1 + (torch.pi * x) ** 2), name="Spike")


def arctan(x: Tensor) -> Tensor:
    return torch.atan(torch.pi * x) / torch.pi


DECLARED: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (straight_through, lambda x: x),
    (reversal, lambda x: -0.5 * x),
    (clipped, lambda x: x.clamp(-1, 1)),
    (spike, arctan),
]


@pytest.mark.parametrize(("subject", "surrogate"), DECLARED, ids=["identity", "reversal", "clipped", "arctan"])
def test_a_declared_surrogate_is_right_and_an_undeclared_one_is_wrong(
    subject: Callable[..., Any], surrogate: Callable[..., Any]
) -> None:
    assert check(subject, draw(3, 4)).verdict is Verdict.WRONG
    declared = check(subject, draw(3, 4), surrogate=surrogate)
    assert declared.passed, str(declared)
    assert any("declared surrogate" in note for note in declared.notes)


def test_a_gradient_that_is_not_that_of_the_surrogate_is_wrong() -> None:
    almost = function(torch.round, lambda g, x: g * (1 + 1e-6), name="Almost")
    report = check(almost, draw(3, 4), surrogate=lambda x: x)
    assert {r.check for r in report.results if r.verdict is Verdict.WRONG} == {"gradient", "complex_step"}


def test_other_promises_stay_those_of_the_subject() -> None:
    def spoiling(g: Tensor, x: Tensor) -> Tensor:
        return g.mul_(1.0)

    report = check(function(torch.round, spoiling), draw(3, 4), surrogate=lambda x: x, reference=torch.floor)
    assert {r.check for r in report.results if r.verdict is Verdict.WRONG} == {"reference_value"}
    keeping = function(lambda x: x.round(), lambda g, x: g.fill_(1.0))
    assert check(keeping, draw(3, 4), surrogate=lambda x: x, checks="-gradient").verdict is Verdict.WRONG


def test_several_inputs_and_keywords_reach_the_surrogate() -> None:
    def product(x: Tensor, y: Tensor, *, scale: float) -> Tensor:
        return scale * x * y

    subject = function(
        lambda x, y, scale: scale * x.round() * y, lambda g, x, y, scale: (g * y * scale, g * x * scale, None)
    )

    def called(x: Tensor, y: Tensor, *, scale: float) -> Tensor:
        result: Tensor = subject(x, y, torch.tensor(scale, dtype=torch.float64))
        return result

    inputs = draw(3), draw(3, seed=1)
    assert check(called, *inputs, keywords={"scale": 2.0}, surrogate=product, checks="gradient").passed
    assert check(called, *inputs, keywords={"scale": 2.0}, checks="gradient").failed


def test_a_pair_on_arrays_takes_a_surrogate_on_tensors() -> None:
    pair = (lambda x: np.round(x), lambda dy, x: dy)
    assert check(pair, draw(4).numpy(), surrogate=lambda x: x).passed


@pytest.mark.parametrize(
    ("subject", "surrogate", "message"),
    [
        (straight_through, 3, r"^surrogate=3 should be a function of the inputs"),
        (straight_through, torch.sum, r"gives outputs of shapes \[\], which should be outputs of shapes \[3, 4\]"),
        (straight_through, lambda x: x.nothing, "^surrogate cannot be used: forward of <lambda> raised AttributeError"),
        (torch.nn.Linear(4, 2), torch.sin, r"Linear has parameters too \(weight, bias\)"),
    ],
    ids=["no function", "shapes", "raises", "parameters"],
)
def test_a_surrogate_that_cannot_be_one_is_refused(subject: Any, surrogate: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        check(subject, draw(3, 4).float(), surrogate=surrogate)


@pytest.mark.parametrize(
    ("subject", "line"),
    [(straight_through, "surrogate=lambda x: x)"), (clipped, "surrogate=)")],
    ids=["identity", "band"],
)
def test_the_name_of_an_undeclared_one_says_how_to_declare_it(subject: Callable[..., Any], line: str) -> None:
    found = [r for r in check(subject, draw(5, 6), checks="gradient").results if r.verdict is Verdict.WRONG]
    assert found[0].details["diagnosis_kind"] == "straight-through"
    assert line in str(found[0].diagnosis)


SOURCE = """
import torch

class Rounding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g

def identity(x):
    return x
"""


def test_the_command_line_and_a_campaign_take_a_surrogate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rounding.py").write_text(SOURCE)
    command = ["verify", "rounding.py:Rounding", "--input", "4,3"]
    assert main(command) == 1
    assert main([*command, "--surrogate", "rounding.py:identity"]) == 0
    assert "declared surrogate, identity" in capsys.readouterr().out
    assert main([*command, "--surrogate", "rounding.py:nothing"]) == 2
    assert "surrogate is 'rounding.py:nothing', but there is no 'nothing'" in capsys.readouterr().err
    subject = '[[subject]]\ntarget = "rounding.py:Rounding"\ninputs = ["4,3"]\n'
    (tmp_path / "without.toml").write_text(subject)
    (tmp_path / "with.toml").write_text(f'{subject}surrogate = "rounding.py:identity"\n')
    assert main(["verify", "--campaign", "without.toml", "--jobs", "0", "--folder", "one"]) == 1
    assert main(["verify", "--campaign", "with.toml", "--jobs", "0", "--folder", "other"]) == 0
