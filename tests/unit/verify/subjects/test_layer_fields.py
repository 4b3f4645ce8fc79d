"""Layers whose passes return nothing, and leave the output and the gradients in attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify import Verdict, check
from nn_from_scratch.verify.subjects import as_subject

RNG = np.random.default_rng(0)
X, W0 = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 2))


class Dense:
    factor = 1.0

    def __init__(self) -> None:
        self.weights, self.biases = W0.copy(), np.zeros((1, 2))

    def forward(self, inputs: Any) -> None:
        self.inputs = inputs
        self.output = inputs @ self.weights + self.biases

    def backward(self, dvalues: Any) -> None:
        self.dweights, self.dbiases = self.inputs.T @ dvalues, dvalues.sum(0, keepdims=True)
        self.dinputs = self.factor * dvalues @ self.weights.T


class Product:
    factor = 1.0

    def forward(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b
        self.product = a * b

    def backward(self, g: Any) -> None:
        self.da, self.db = self.factor * g * self.b, g * self.a


@pytest.mark.parametrize(
    ("make", "inputs", "names"),
    [(Dense, (X,), {"inputs", "weights", "biases"}), (Product, (X, X + 1), {"a", "b"})],
)
def test_outputs_and_gradients_in_attributes_are_found(
    make: type[Any], inputs: tuple[Any, ...], names: set[str]
) -> None:
    report = check(make(), *inputs)
    assert report.passed, str(report)
    assert {r.tensor for r in report.results if r.check == "gradient"} == names
    assert any("is taken from the attribute d" in note for note in report.notes)
    wrong = type("Wrong", (make,), {"factor": 3.0})
    first = next(iter(as_subject(wrong(), *inputs).operands)).name
    found = {r.tensor: r.verdict for r in check(wrong(), *inputs, checks="gradient").results}
    assert {name for name, verdict in found.items() if verdict is Verdict.WRONG} == {first}


def test_a_gradient_of_the_input_that_is_nowhere_is_forgotten() -> None:
    class Forgets(Dense):
        def backward(self, dvalues: Any) -> None:
            self.dweights, self.dbiases = self.inputs.T @ dvalues, dvalues.sum(0, keepdims=True)

    found = {r.tensor: r.verdict for r in check(Forgets(), X, checks="gradient", differentiable=["inputs"]).results}
    assert found == {"inputs": Verdict.WRONG, "weights": Verdict.CORRECT, "biases": Verdict.CORRECT}


def test_an_output_that_is_not_clear_is_refused() -> None:
    class Two(Product):
        def forward(self, a: Any, b: Any) -> None:
            self.first, self.second = a + b, a - b

    with pytest.raises(SubjectError, match="forward of Two returned None"):
        as_subject(Two(), X, X + 1)
