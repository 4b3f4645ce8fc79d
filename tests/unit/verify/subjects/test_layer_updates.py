"""Layers whose backward takes a learning rate and updates the parameters itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nn_from_scratch.verify import Verdict, check
from nn_from_scratch.verify.subjects import as_subject

RNG = np.random.default_rng(0)
X, W0 = RNG.normal(size=(4, 3)), RNG.normal(size=(3, 2))


class InPlace:
    factor = 1.0

    def __init__(self) -> None:
        self.weights, self.bias = W0.copy(), np.zeros(2)

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.weights + self.bias

    def backward(self, output_gradient: Any, learning_rate: float) -> Any:
        dx = output_gradient @ self.weights.T
        self.weights -= learning_rate * self.factor * self.x.T @ output_gradient
        self.bias -= learning_rate * output_gradient.sum(0)
        return dx


class Rebinds(InPlace):
    def backward(self, dout: Any, lr: float) -> Any:
        dx = dout @ self.weights.T
        self.weights = self.weights - lr * self.factor * self.x.T @ dout
        self.bias = self.bias - lr * dout.sum(0)
        return dx


@pytest.mark.parametrize("make", [InPlace, Rebinds])
def test_what_is_subtracted_is_the_gradient(make: type[Any]) -> None:
    report = check(make(), X)
    assert report.passed, str(report)
    assert {r.tensor for r in report.results if r.check == "gradient"} == {"x", "weights", "bias"}
    note = "backward takes a learning rate: the gradient of weights, bias is what it subtracts, over the rate"
    assert note in report.notes
    wrong = type("Wrong", (make,), {"factor": 0.5})
    found = {r.tensor: r.verdict for r in check(wrong(), X, checks="gradient").results}
    assert found == {"x": Verdict.CORRECT, "weights": Verdict.WRONG, "bias": Verdict.CORRECT}


def test_an_input_gradient_of_the_updated_weights_is_wrong() -> None:
    class TooLate(InPlace):
        def backward(self, output_gradient: Any, learning_rate: float) -> Any:
            super().backward(output_gradient, learning_rate)
            return output_gradient @ self.weights.T

    found = {r.tensor: r.verdict for r in check(TooLate(), X, checks="gradient").results}
    assert found["x"] is Verdict.WRONG and found["weights"] is Verdict.CORRECT


def test_another_rule_of_update_is_not_taken_for_a_gradient() -> None:
    class Normalizes(InPlace):
        def backward(self, output_gradient: Any, learning_rate: float) -> Any:
            dx = output_gradient @ self.weights.T
            gradient = self.x.T @ output_gradient
            self.weights -= learning_rate * gradient / (np.abs(gradient).max() + 1e-8)
            return dx

    report = check(Normalizes(), X)
    assert report.passed, str(report)
    assert any(note.startswith("not looked at: weights (backward updates it by another rule") for note in report.notes)


def test_every_backward_starts_from_the_same_parameters() -> None:
    run = as_subject(InPlace(), X).run({})
    ones = {"y": run.outputs["y"] * 0 + 1}
    first, second = run.backward(ones)["weights"], run.backward(ones)["weights"]
    assert first is not None and second is not None and bool((first == second).all())
