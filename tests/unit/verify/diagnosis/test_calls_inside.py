"""A fault of one call inside of a composed forward has a name only where that call explains the whole gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nn_from_scratch.verify import Verdict, check
from nn_from_scratch.verify.diagnosis import Diagnosis, DiagnosisContext, explain
from nn_from_scratch.verify.diagnosis.replay import Replay
from tests.functions import draw

TENSORS = {"x": draw(4, 3), "h": draw(4, 5, seed=1), "v": draw(3, 5, seed=2), "w": draw(5, 5, seed=3)}
G = draw(4, 5, seed=4)


def _cell(x: Tensor, h: Tensor, v: Tensor, w: Tensor) -> Tensor:
    return torch.tanh(x @ v + h @ w)


def _explained(wrong: Tensor, forward: Callable[..., Tensor] = _cell) -> Diagnosis | None:
    """The diagnosis of a wrong gradient of h."""
    leaves = {name: value.clone().requires_grad_() for name, value in TENSORS.items()}
    y = forward(*leaves.values())
    (truth,) = torch.autograd.grad(y, leaves["h"], G)
    context = DiagnosisContext(
        name="h",
        tensors=TENSORS,
        outputs={"y": y.detach()},
        cotangent=G,
        forward=lambda values: {"y": forward(*(values[name] for name in TENSORS))},
    )
    return explain(wrong, truth, tolerance=1e-9, context=context)


def _slope() -> Tensor:
    return 1 - _cell(*TENSORS.values()) ** 2


def test_the_call_is_named() -> None:
    found = _explained(G @ TENSORS["w"].T)
    assert found is not None and found.kind == "derivative-missing"
    assert found.sentence == (
        "The gradient of 'h' lacks the derivative of tanh(add(…)): the cotangent passes through unchanged."
    )


@pytest.mark.parametrize(
    "wrong",
    [
        # The derivative of tanh left out in half of the entries, or halved, or taken from the neighbor.
        lambda: (G * torch.where(draw(4, 5, seed=9) > 0, _slope(), 1.0)) @ TENSORS["w"].T,
        lambda: (G * _slope().sqrt()) @ TENSORS["w"].T,
        lambda: (G * _slope().roll(1, 1)) @ TENSORS["w"].T,
        # A factor that is neither turned nor one of the forward's.
        lambda: (G * _slope()) @ TENSORS["w"].flip(0).T.roll(1, 0) * 1.1,
        lambda: (G * _slope()) @ (TENSORS["w"] + TENSORS["w"].T.roll(1, 1)),
    ],
)
def test_a_derivative_that_no_call_explains_has_no_name(wrong: Callable[[], Tensor]) -> None:
    assert _explained(wrong()) is None


def test_a_forward_that_autograd_cannot_follow_is_left_alone() -> None:
    def through_numpy(x: Tensor, h: Tensor, v: Tensor, w: Tensor) -> Tensor:
        return torch.from_numpy(_cell(x.detach(), h.detach(), v.detach(), w.detach()).detach().numpy())

    replay = Replay(lambda values: {"y": through_numpy(*values.values())}, TENSORS)
    assert replay.gradient("h", {"y": G})[0] is None


def test_the_forward_of_an_autograd_function_is_seen_from_inside() -> None:
    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, w: Tensor) -> Tensor:
            ctx.save_for_backward(x, w)
            return torch.relu(x @ w)

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> tuple[Tensor, Tensor]:
            x, w = ctx.saved_tensors  # type: ignore[attr-defined]
            return (g * (x @ w > 0)) @ w.T, x.T @ g

    x, w = draw(4, 3).requires_grad_(), draw(3, 5, seed=1).requires_grad_()
    report = check(Fused, x, w, checks="gradient", names=["x", "w"])
    (wrong,) = (result for result in report.results if result.verdict is Verdict.WRONG)
    assert wrong.tensor == "w"
    assert "lacks the derivative of relu(matmul(x, w))" in str(wrong.diagnosis)


def test_a_subject_keeps_nothing_of_a_diagnosis() -> None:
    class Layer:
        def __init__(self) -> None:
            self.weight = draw(3, 5, seed=1)
            self.dweight = torch.zeros_like(self.weight)

        def forward(self, x: Tensor) -> Tensor:
            self.x = x
            return torch.tanh(x @ self.weight)

        def backward(self, dy: Tensor) -> Tensor:
            self.dweight = self.x.T @ dy
            return (dy * (1 - torch.tanh(self.x @ self.weight) ** 2)) @ self.weight.T

    layer = Layer()
    report = check(layer, draw(4, 3), checks="gradient")
    assert "lacks the derivative of tanh(" in str(report)
    held: Mapping[str, object] = vars(layer)
    assert not any(isinstance(value, Tensor) and value.requires_grad for value in held.values())


@pytest.mark.parametrize(("smoothing", "kind"), [(0.0, "option-forgotten"), (0.05, None)])
def test_an_option_counts_as_forgotten_at_its_default_alone(smoothing: float, kind: str | None) -> None:
    x, t = draw(5, 3), torch.tensor([0, 2, 1, 1, 0])

    def gradient(label_smoothing: float) -> Tensor:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(leaf, t, label_smoothing=label_smoothing), leaf)[0]

    context = DiagnosisContext(
        name="x",
        tensors={"x": x, "t": t},
        outputs={"y": F.cross_entropy(x, t, label_smoothing=0.1)},
        cotangent=torch.ones((), dtype=x.dtype),
        forward=lambda values: {"y": F.cross_entropy(values["x"], values["t"], label_smoothing=0.1)},
    )
    found = explain(gradient(smoothing), gradient(0.1), tolerance=1e-9, context=context)
    assert (None if found is None else found.kind) == kind


def _through(forward: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(forward(leaf), leaf, g)[0]


@pytest.mark.parametrize(
    ("forward", "wrong", "kind"),
    [
        # A rotation by another angle, and a mask that is not the complement.
        (lambda x: x.roll(2, 1), lambda g, x: g.roll(1, 1), "forward-applied"),
        (lambda x: x.clamp(-0.5, 0.5) * 2, lambda g, x: 2 * g * (x > 0.5), "mask-inverted"),
        # The derivative of no known function, and of one at another place.
        (lambda x: torch.relu(x * 3), lambda g, x: 3 * g * (x > 0.4), "neighbor"),
        (lambda x: torch.sigmoid(x * 3), lambda g, x: 3 * g * torch.cos(x), "neighbor"),
        # Another temperature, not none.
        (lambda x: (x / 3).softmax(1), lambda g, x: _through(lambda t: (t / 2).softmax(1), x, g), "call-left-out"),
        # Quarters exchanged, not halves.
        (lambda x: torch.cat([x, x.sin()], 1), lambda g, x: g[:, 2:8] + g[:, :6] * x.cos(), "cotangent-rolled"),
    ],
)
def test_what_only_resembles_a_fault_of_a_call_does_not_get_its_name(
    forward: Callable[[Tensor], Tensor], wrong: Callable[[Tensor, Tensor], Tensor], kind: str
) -> None:
    x = draw(5, 6)
    leaf = x.clone().requires_grad_()
    y = forward(leaf)
    g = draw(*y.shape, seed=1)
    (truth,) = torch.autograd.grad(y, leaf, g)
    context = DiagnosisContext(
        name="x",
        tensors={"x": x},
        outputs={"y": y.detach()},
        cotangent=g,
        forward=lambda values: {"y": forward(values["x"])},
    )
    found = explain(wrong(g, x), truth, tolerance=1e-9, context=context)
    assert found is None or found.kind != kind, found.sentence


Array = np.ndarray[Any, np.dtype[np.float64]]


def _of_arrays(spoil: Callable[[Array], Array]) -> str | None:
    """The kind of the diagnosis for dh of a recurrent cell on arrays, whose slope 1 - y² is spoiled there."""

    def forward(x: Array, h: Array, v: Array, w: Array) -> tuple[Array, tuple[Array, ...]]:
        return np.tanh(x @ v + h @ w), (x, h, v, w)

    def backward(g: Array, cache: tuple[Array, ...]) -> tuple[Array, ...]:
        x, h, v, w = cache
        slope = 1 - np.tanh(x @ v + h @ w) ** 2
        inner = g * slope
        return inner @ v.T, (g * spoil(slope)) @ w.T, x.T @ inner, h.T @ inner

    arrays = [value.numpy() for value in TENSORS.values()]
    report = check((forward, backward), *arrays, checks="gradient")
    (wrong,) = (result for result in report.results if result.verdict is Verdict.WRONG)
    kind = wrong.details.get("diagnosis_kind")
    return None if kind is None else str(kind)


def test_a_composition_on_arrays_is_run_in_their_place() -> None:
    assert _of_arrays(np.ones_like) == "derivative-missing"
    assert _of_arrays(lambda slope: slope**0.7) is None
