"""What passes are called, take and return: each way is understood as it is, or refused with the line that helps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify import Verdict, check
from nn_from_scratch.verify.subjects import as_subject
from nn_from_scratch.verify.subjects.backward_arguments import trained_input, understand
from nn_from_scratch.verify.subjects.gradient_order import returned_names

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
W0, V0, B0 = RNG.normal(size=(3, 3)), RNG.normal(size=(3, 3)), RNG.normal(size=3)
TENSOR = torch.from_numpy(X)


def gradients(subject: object, *inputs: object, **options: Any) -> dict[str | None, Verdict]:
    report = check(subject, *inputs, checks="gradient", **options)
    return {result.tensor: result.verdict for result in report.results}


# Losses: `factor` makes them wrong.


class Squares:
    factor = 1.0

    def forward(self, p: Any, t: Any) -> Any:
        self.e = p - t
        return (self.e**2).mean()

    def backward(self) -> Any:
        return self.factor * 2 * self.e / self.e.size


class AnyNumber(Squares):
    def backward(self, *gradwrtoutput: Any) -> Any:
        return super().backward()


class OptionalCotangent(Squares):
    def backward(self, grad: Any = None) -> Any:
        return super().backward()


class TakesBoth(Squares):
    def backward(self, p: Any, t: Any) -> Any:  # type: ignore[override]
        return self.factor * 2 * (p - t) / p.size


class TargetFirst(Squares):
    def forward(self, y_true: Any, y_pred: Any) -> Any:
        return super().forward(y_pred, y_true)


class Scales(Squares):
    def backward(self, dout: Any = 1.0) -> Any:
        return dout * super().backward()


class LossAndGrad:
    factor = 1.0

    def loss(self, y: Any, y_pred: Any) -> Any:
        return ((y - y_pred) ** 2).sum() / 2

    def grad(self, y: Any, y_pred: Any) -> Any:
        return self.factor * (y_pred - y)


LOSSES = [Squares, AnyNumber, OptionalCotangent, TakesBoth, TargetFirst, Scales, LossAndGrad]


@pytest.mark.parametrize("make", LOSSES)
def test_a_loss_that_gives_one_gradient_is_checked_for_its_prediction(make: type[Any]) -> None:
    name = "p" if make not in (TargetFirst, LossAndGrad) else "y_pred"
    report = check(make(), X, T, checks=["gradient", "linear_cotangent", "backward_twice", "accumulation"])
    assert report.passed, str(report)
    assert {r.tensor for r in report.results if r.check == "gradient"} == {name}
    assert f"backward gives one gradient, taken for that of {name}" in report.notes
    assert any("no gradient is looked at for" in note for note in report.notes)
    wrong = type("Wrong", (make,), {"factor": -1.0})
    assert gradients(wrong(), X, T) == {name: Verdict.WRONG}


def test_both_gradients_of_a_loss_that_were_asked_for_are_missed() -> None:
    asked = [torch.from_numpy(x).requires_grad_() for x in (X, T)]
    with pytest.raises(
        SubjectError, match=r"those of p, t were asked for; differentiable=\['p'\] says which one it is"
    ):
        as_subject(LossOfTensors(), *asked)


class LossOfTensors(Squares):
    def backward(self) -> Any:
        return 2 * self.e / self.e.numel()


def test_what_is_trained_is_told_by_name() -> None:
    assert trained_input(["targets", "x"]) == trained_input(["x", "labels"]) == "x"
    assert trained_input(["y", "y_hat"]) == "y_hat" and trained_input(["y_true", "target"]) == "y_true"


# What a backward returns.


class Affine:
    """Two products and a bias; subclasses say how the gradients are returned."""

    factor = 1.0

    def __init__(self) -> None:
        self.W, self.V, self.b = W0.copy(), V0.copy(), B0.copy()

    def forward(self, x: Any) -> Any:
        self.x, self.h = x, x @ self.W
        return self.h @ self.V + self.b

    def parts(self, dy: Any) -> tuple[Any, Any, Any, Any]:
        dh = dy @ self.V.T
        return dh @ self.W.T, self.factor * self.x.T @ dh, self.h.T @ dy, dy.sum(0)


class InOrder(Affine):
    def backward(self, dy: Any) -> Any:
        dx, dW, dV, db = self.parts(dy)
        return dx, dW, dV, db


class InputLast(Affine):
    def backward(self, dy: Any) -> Any:
        dx, dW, dV, db = self.parts(dy)
        return db, dV, dW, dx


class ByKey(Affine):
    def backward(self, dy: Any) -> Any:
        dx, dW, dV, db = self.parts(dy)
        return {"db": db, "dx": dx, "dW": dW, "dV": dV}


class AsAttributesToo(Affine):
    def backward(self, dy: Any) -> Any:
        dx, self.dW, self.dV, self.db = self.parts(dy)
        return dx, self.dW, self.dV, self.db


@pytest.mark.parametrize("make", [InOrder, InputLast, ByKey, AsAttributesToo])
def test_gradients_of_parameters_may_be_returned(make: type[Any]) -> None:
    assert gradients(make(), X) == dict.fromkeys(("x", "W", "V", "b"), Verdict.CORRECT)
    wrong = type("Wrong", (make,), {"factor": 0.5})
    assert gradients(wrong(), X)["W"] is Verdict.WRONG


def test_what_cannot_be_told_apart_is_named_and_the_rest_is_checked() -> None:
    class Nameless(Affine):
        def backward(self, dy: Any) -> Any:
            return (*self.parts(dy),)

    report = check(Nameless(), X, checks="gradient")
    assert {r.tensor: r.verdict for r in report.results} == {"x": Verdict.CORRECT, "b": Verdict.CORRECT}
    assert "not looked at: what backward returns in place 1, 2 of 4 from 0 on" in report.notes


def test_names_of_what_is_returned_are_read_from_the_source() -> None:
    assert returned_names(InputLast().backward, 4) == ["db", "dV", "dW", "dx"]
    assert returned_names(np.negative, 1) == returned_names(Squares().backward, 2) == []


# What a backward takes.


def square(x: Any) -> Any:
    return x**2


class Square:
    def forward(self, x: Any) -> Any:
        self.y = x**2
        return self.y


class InputFirst(Square):
    def backward(self, x: Any, dy: Any) -> Any:
        return 2 * x * dy


class InputSecond(Square):
    def backward(self, grad_output: Any, saved_x: Any) -> Any:
        return 2 * saved_x * grad_output


class WithCache:
    def forward(self, x: Any) -> Any:
        return x**2, {"x": x}

    def backward(self, dy: Any, cache: Any) -> Any:
        return 2 * cache["x"] * dy


class CacheFirst(WithCache):
    def backward(self, cache: Any, dy: Any) -> Any:  # type: ignore[override]
        return 2 * cache["x"] * dy


class OtherNames:
    def upsample(self, x: Any) -> Any:
        return x**2 + 0 * self.remember(x)

    def remember(self, x: Any) -> Any:
        self.x = x
        return x

    def revert_upsample(self, dy: Any) -> Any:
        return 2 * self.x * dy


class Static:
    @staticmethod
    def forward(x: Any) -> Any:
        return x**2

    @staticmethod
    def backward(dy: Any, x: Any) -> Any:
        return 2 * x * dy


class StaticContext:
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * dy


class Activation:
    def fn(self, z: Any) -> Any:
        return z**2

    def grad(self, x: Any) -> Any:
        return 2 * x


class CalledActivation(Activation):
    def __call__(self, z: Any) -> Any:
        return self.fn(z)


def square_backward(dA: Any, x: Any) -> Any:
    return 2 * x * dA


def square_derivative(x: Any) -> Any:
    return 2 * x


def cached_square(x: Any) -> Any:
    return x**2, x


SUBJECTS: list[Callable[[], Any]] = [
    InputFirst,
    InputSecond,
    WithCache,
    CacheFirst,
    OtherNames,
    lambda: Static,
    Static,
    lambda: StaticContext,
    Activation,
    CalledActivation,
    lambda: (square, square_backward),
    lambda: (square, lambda x, dy: 2 * x * dy),
    lambda: (square, square_derivative),
    lambda: (cached_square, lambda cache, dy: 2 * cache * dy),
]


@pytest.mark.parametrize("make", SUBJECTS)
def test_arguments_of_a_backward_are_told_by_their_names(make: Callable[[], Any]) -> None:
    (verdict,) = gradients(make(), X).values()
    assert verdict is Verdict.CORRECT
    assert check(make(), X).passed


def test_a_derivative_of_the_output_is_told_from_one_of_the_input_and_a_wrong_one_from_both() -> None:
    class Sigmoid:
        def function(self, x: Any) -> Any:
            return 1 / (1 + np.exp(-x))

        def derivative(self, y: Any) -> Any:
            return y * (1 - y)

    class Wrong(Sigmoid):
        def derivative(self, x: Any) -> Any:
            y = self.function(x)
            return y * (1 + y)

    assert gradients(Sigmoid(), X) == {"x": Verdict.CORRECT}
    assert gradients(Wrong(), X) == {"x": Verdict.WRONG}


def test_arguments_that_say_nothing_are_not_guessed() -> None:
    def three(a: Any, b: Any, c: Any) -> Any:
        return a

    assert understand(three, ["x"], 1) is None


def test_methods_are_named_by_a_mapping() -> None:
    class Unnamed(OtherNames):
        def run(self, x: Any) -> Any:
            return self.upsample(x)

        def back(self, dy: Any) -> Any:
            return self.factor * 2 * self.x * dy

        revert_upsample = None  # type: ignore[assignment]
        factor = 1.0

    passes = {"forward": "run", "backward": "back"}
    assert gradients(Unnamed(), X, mapping=passes) == {"x": Verdict.CORRECT}
    Unnamed.factor = 3.0
    assert gradients(Unnamed(), X, mapping=passes) == {"x": Verdict.WRONG}
    with pytest.raises(ArgumentError, match="mapping calls the backward 'no', but"):
        as_subject(Unnamed(), X, mapping={"forward": "run", "backward": "no"})
    with pytest.raises(SubjectError, match=r'with the methods .*mapping=\{"forward"'):
        as_subject(Unnamed(), X)


def test_passes_and_parameters_are_named_by_one_mapping() -> None:
    class Kernel:
        def __init__(self) -> None:
            self.kernel = W0.copy()

        def run(self, x: Any) -> Any:
            self.x = x
            return x @ self.kernel

        def back(self, dy: Any) -> Any:
            self.step = self.x.T @ dy
            return dy @ self.kernel.T

    mapping = {"forward": "run", "backward": "back", "kernel": "step"}
    assert gradients(Kernel(), X, mapping=mapping) == dict.fromkeys(("x", "kernel"), Verdict.CORRECT)


# The report's own layers.


class ReportModule:
    """Inputs are kept in a list; the cotangent carries the index of the call that it belongs to."""

    factor = 1.0

    def __init__(self) -> None:
        self.xs: list[Tensor] = []
        self.w = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
        self.w.grad = torch.zeros_like(self.w)

    def __call__(self, x: Tensor) -> Any:
        self.xs.append(x)
        y: Any = self.forward(x)
        y.creator, y.input_index = self, len(self.xs) - 1
        return y

    def forward(self, x: Tensor) -> Tensor:
        return x * self.w

    def param(self) -> list[Tensor]:
        return [self.w]

    def backward(self, gradwrtoutput: Any) -> Any:
        x: Any = self.xs[gradwrtoutput.input_index]
        assert self.w.grad is not None
        self.w.grad += self.factor * (gradwrtoutput * x).sum(0)
        dldx: Any = gradwrtoutput * self.w
        dldx.input_index = gradwrtoutput.input_index
        if hasattr(x, "creator"):
            x.creator.backward(dldx)
        return dldx


def test_a_cotangent_carries_what_the_layer_wrote_on_its_output() -> None:
    report = check(ReportModule(), TENSOR)
    assert report.passed, str(report)
    ReportModule.factor = 2.0
    try:
        assert gradients(ReportModule(), TENSOR) == {"x": Verdict.CORRECT, "w": Verdict.WRONG}
    finally:
        ReportModule.factor = 1.0


class HandsOn(ReportModule):
    """Gives its gradient to the layer that made its input, and returns none."""

    def backward(self, gradwrtoutput: Any) -> None:
        super().backward(gradwrtoutput)


def test_a_gradient_that_is_handed_on_to_the_layer_before_is_that_of_the_input() -> None:
    assert gradients(HandsOn(), TENSOR) == {"x": Verdict.CORRECT, "w": Verdict.CORRECT}
    HandsOn.factor = 2.0
    assert gradients(HandsOn(), TENSOR) == {"x": Verdict.CORRECT, "w": Verdict.WRONG}


# Refusals.


def test_a_function_on_arrays_without_a_backward_is_refused() -> None:
    def affine(x: Any, w: Any, b: Any) -> Any:
        return x @ w + b

    with pytest.raises(SubjectError, match=r"has no backward; give both passes, check\(\(affine, backward\), \.\.\.\)"):
        as_subject(affine, X, W0, B0)


def test_a_backward_with_arguments_that_say_nothing_is_refused_with_the_pair_to_write() -> None:
    class Decides(Affine):
        def backward(self, dy: Any, momentum: float, clip: float) -> Any:
            return dy

    with pytest.raises(SubjectError, match=r"as in check\(\(layer\.forward, lambda dy: layer\.backward\(dy"):
        as_subject(Decides(), X)


def test_gradients_that_are_missing_or_too_many_are_refused_with_what_to_say() -> None:
    def product(x: Any, w: Any) -> Any:
        return x * w

    (one,) = check((product, lambda dy: dy), X, T, checks="gradient").results
    assert "differentiable=['x'] looks at those alone" in str(one)
    (three,) = check((product, lambda dy: (dy, dy, dy)), X, T, checks="gradient").results
    assert "hand over what the others belong to as an input" in str(three)
