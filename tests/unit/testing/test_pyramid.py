"""A catalogue of subjects from user code gets the same pyramid as the engine, from one decorated test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SUBJECTS = """
import numpy as np
import torch
from nn_from_scratch import Layer


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x)
        ctx.slope = slope
        return (slope * x).sigmoid()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        y = (ctx.slope * x).sigmoid()
        return ctx.slope * g * y * (1 - y), None


class Doubled(Scaled):
    @staticmethod
    def backward(ctx, g):
        return 2 * Scaled.backward(ctx, g)[0], None


class Gain(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.weight


class Affine:
    def __init__(self, inputs, outputs):
        self.W = np.random.randn(inputs, outputs)
        self.dW = np.zeros_like(self.W)

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = self.x.T @ dy
        return dy @ self.W.T


class Cube(Layer):
    def forward(self, x):
        return x ** 3

    def input_vjp(self, g, record):
        return 3 * record.x ** 2 * g
"""

CATALOGUE = """
import torch
from nn_from_scratch.testing import Case, Exemption, OptimizerSpec, Spec
from subjects import Affine, Cube, Doubled, Gain, Scaled

CASES = (Case("steep", ((4, 3),), (2.0,)), Case("flat", ((5,),), options={"slope": 0.5}))

def scaled(function, parameters, x, slope):
    return (slope * x).sigmoid()

CATALOGUE = [
    Spec(Scaled, CASES, scaled),
    Spec(Doubled, CASES[:1], scaled),
    Spec(Gain, (Case("three", ((4, 3),), (3,)),), lambda gain, p, x: x * p["weight"], drawn=True),
    Spec(Affine, (Case("wide", ((4, 3),), (3, 5)),), lambda layer, p, x: x @ p["W"], numpy=True),
    Spec(Cube, (Case("vector", ((6,),)),)),
    OptimizerSpec(torch.optim.SGD, (Case("momentum", options={"lr": 0.1, "momentum": 0.9}),), torch.optim.SGD),
]
EXEMPTED = [
    Spec(
        Doubled,
        CASES[:1],
        scaled,
        name="Known",
        exemptions=(
            Exemption("gradient", "twice as large"),
            Exemption("complex_step", "twice as large"),
            Exemption("input_gradient", "twice as large"),
            Exemption("special_values", "twice as large"),
            Exemption("other_shapes", "twice as large"),
            Exemption("copies", "thought to fail"),
        ),
    )
]
"""

TEST = """
from catalogue import {catalogue}
from nn_from_scratch.testing import pyramid

@pyramid({catalogue}, gpu={gpu})
def test_subjects(gradcheck, case):
    gradcheck(case)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(subjects=SUBJECTS, catalogue=CATALOGUE)
    pytester.syspathinsert()
    return pytester


def verdicts(path: str = "report.json") -> dict[str, str]:
    data = json.loads(Path(path).read_text(encoding="utf-8"))
    return {entry["test"].split("[")[1][:-1]: entry["verdict"] for entry in data["results"]["verifications"]}


def test_every_form_of_subject_gets_every_check(project: pytest.Pytester) -> None:
    project.makepyfile(TEST.format(catalogue="CATALOGUE", gpu=False))
    result = project.runpytest_subprocess("--nnfs-report=report.json")
    found = verdicts()
    wrong = {name for name, verdict in found.items() if verdict in ("wrong", "fragile")}
    # The planted fault, and nothing else: by the verifier and against the reference, the value being right.
    assert wrong == {
        "Doubled-steep-float64-gradient",
        "Doubled-steep-float64-complex_step",
        "Doubled-steep-float64-contracts",
        "Doubled-steep-float64-input_gradient",
        "Doubled-steep-float32-input_gradient",
    }
    assert result.parseoutcomes()["failed"] == len(wrong)
    assert {"correct", "wrong", "fragile"} == set(found.values())
    assert found.keys() > {
        "Scaled-flat-float32-value",
        "Scaled-steep-low_precision",
        "Gain-three-float64-parameter_gradient",
        "Gain-three-float64-contracts",
        "Affine-wide-float64-gradient",
        "Affine-wide-float64-parameter_gradient",
        "Cube-vector-float64-complex_step",
        "SGD-momentum-float32-trajectory",
    }
    assert "Affine-wide-float32-value" not in found  # an array layer keeps its own dtype
    assert "Cube-vector-float64-value" not in found  # nothing to compare with


def test_what_does_not_apply_is_skipped_with_its_reason(project: pytest.Pytester) -> None:
    project.makepyfile(TEST.format(catalogue="CATALOGUE", gpu=True))
    result = project.runpytest_subprocess("-rs", "--nnfs-gpu=off", "-k", "Scaled or cuda")
    result.stdout.fnmatch_lines(["SKIPPED*Scaled-steep has no parameter with a gradient"])
    result.stdout.fnmatch_lines(["*NOTHING RAN ON A GPU*"])


def test_an_exemption_is_expected_to_fail_and_one_that_is_not_needed_fails(project: pytest.Pytester) -> None:
    project.makepyfile(TEST.format(catalogue="EXEMPTED", gpu=False))
    result = project.runpytest_subprocess("-rxf")
    result.stdout.fnmatch_lines(["XFAIL*Known-steep-float64-gradient* - exempted: twice as large"])
    result.stdout.fnmatch_lines(["*thought to fail*"])
    outcomes = result.parseoutcomes()
    # gradient, complex step, two contracts, and the input gradient in two dtypes; it does not break copies.
    assert (outcomes["xfailed"], outcomes["failed"]) == (6, 1)
    result.stdout.fnmatch_lines(["FAILED*Known-steep-float64-copies*"])


def test_the_command_line_chooses_among_the_checks(project: pytest.Pytester) -> None:
    project.makepyfile(TEST.format(catalogue="CATALOGUE", gpu=False))
    result = project.runpytest_subprocess("-k", "Scaled and steep", "--nnfs-checks=unmodified,value", "-rs")
    result.assert_outcomes(passed=3, skipped=7)
    result.stdout.fnmatch_lines(["SKIPPED*: gradient is not among the chosen checks: unmodified, value"])


def test_a_catalogue_that_makes_no_sense_is_refused_with_one_sentence(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_empty="from nn_from_scratch.testing import pyramid\n\n@pyramid([])\ndef test_it(case):\n    pass\n",
        test_twice="""
        from catalogue import CATALOGUE
        from nn_from_scratch.testing import pyramid

        @pyramid([*CATALOGUE, CATALOGUE[0]])
        def test_it(case):
            pass
        """,
    )
    result = project.runpytest_subprocess()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["*ArgumentError: catalogue is empty, but a test over no entries would pass without checking anything"]
    )
    result.stdout.fnmatch_lines(["*ArgumentError: catalogue holds two entries of the name 'Scaled'; tell them apart*"])
