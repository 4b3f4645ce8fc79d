"""Layer objects as courses write them: parameters and gradients are found, and a right one is not reported as wrong."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.errors import SubjectError
from nn_from_scratch.verify.context import CheckContext
from nn_from_scratch.verify.contracts import CONTRACTS
from nn_from_scratch.verify.results import Verdict
from nn_from_scratch.verify.subjects import as_subject

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5))
W0, B0 = RNG.normal(size=(5, 3)), RNG.normal(size=3)


class Beside:
    """W with dW, made anew in each backward."""

    def __init__(self) -> None:
        self.W, self.b = W0.copy(), B0.copy()

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy: Any) -> Any:
        self.dW, self.db = self.x.T @ dy, dy.sum(0)
        self.dx = dy @ self.W.T
        return self.dx


class Adds(Beside):
    """w with dw, to which each backward adds, and `param()`."""

    def __init__(self) -> None:
        self.w, self.b = torch.tensor(W0), torch.tensor(B0)
        self.dw, self.db = torch.zeros(5, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.w + self.b

    def backward(self, dy: Any) -> Any:
        self.dw += self.x.T @ dy
        self.db += dy.sum(0)
        return dy @ self.w.T

    def param(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.w, self.dw), (self.b, self.db)]


class Dictionaries:
    def __init__(self) -> None:
        self.params = {"W": W0.copy(), "b": B0.copy()}
        self.grads = {"W": np.zeros_like(W0), "b": np.zeros_like(B0)}

    def __call__(self, x: Any) -> Any:
        self.cache = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dy: Any) -> Any:
        self.grads["W"] += self.cache.T @ dy
        self.grads["b"] += dy.sum(0)
        return dy @ self.params["W"].T


class Lists:
    def __init__(self) -> None:
        self.params = [W0.copy(), B0.copy()]
        self.grads = [np.zeros_like(W0), np.zeros_like(B0)]

    def forward(self, x: Any) -> Any:
        W, b = self.params
        self.x = x
        return x @ W + b

    def backward(self, dy: Any) -> Any:
        self.grads[0][...] = self.x.T @ dy
        self.grads[1][...] = dy.sum(0)
        return dy @ self.params[0].T


class Parameter:
    def __init__(self, value: Any) -> None:
        self.value, self.grad = value, np.zeros_like(value)


class ParameterObjects:
    def __init__(self) -> None:
        self.weight, self.bias = Parameter(W0.copy()), Parameter(B0.copy())

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.weight.value + self.bias.value

    def backward(self, dy: Any) -> Any:
        self.weight.grad = self.x.T @ dy
        self.bias.grad = dy.sum(0)
        return dy @ self.weight.value.T

    def parameters(self) -> Iterator[Parameter]:
        yield self.weight
        yield self.bias


class TorchGrad:
    """weight with weight.grad on plain tensors."""

    def __init__(self) -> None:
        self.weight, self.bias = torch.tensor(W0), torch.tensor(B0)

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.weight + self.bias

    def backward(self, dy: Any) -> Any:
        for tensor, gradient in ((self.weight, self.x.T @ dy), (self.bias, dy.sum(0))):
            tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
        return dy @ self.weight.T


class NewDictionary:
    """A dictionary of gradients that is there after a backward alone, one of them of nothing that is known."""

    def __init__(self) -> None:
        self.weights, self.bias = W0.copy(), B0.copy()

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.weights + self.bias

    def backward(self, dy: Any) -> Any:
        self.grads = {"dweights": self.x.T @ dy, "d_bias": dy.sum(0), "other": dy}
        return dy @ self.weights.T


class GradientDictionary(NewDictionary):
    def __init__(self) -> None:
        super().__init__()
        self.gradient: dict[str, Any] = {}

    def backward(self, dy: Any) -> Any:
        self.gradient = {"weights": self.x.T @ dy, "bias": dy.sum(0)}
        return dy @ self.weights.T


class Inner:
    """A network of layers."""

    def __init__(self) -> None:
        self.layers: list[Any] = [Beside(), Tanh()]

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: Any) -> Any:
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


class Tanh:
    def forward(self, x: Any) -> Any:
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy: Any) -> Any:
        return dy * (1 - self.y**2)


class Unusual:
    def __init__(self) -> None:
        self.kernel = W0.copy()

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.kernel

    def backward(self, dy: Any) -> Any:
        self.kernel_update = self.x.T @ dy
        return dy @ self.kernel.T


class MeanSquares:
    """A loss whose backward takes nothing."""

    def forward(self, prediction: Any, target: Any) -> Any:
        self.e = prediction - target
        return (self.e**2).mean()

    def backward(self) -> Any:
        return 2 * self.e / self.e.size


LAYERS: list[tuple[Callable[[], Any], set[str], str]] = [
    (Beside, {"W", "b"}, "overwrites"),
    (Adds, {"w", "b"}, "adds"),
    (Dictionaries, {"W", "b"}, "adds"),
    (Lists, {"params.0", "params.1"}, "overwrites"),
    (ParameterObjects, {"weight", "bias"}, "overwrites"),
    (TorchGrad, {"weight", "bias"}, "adds"),
    (GradientDictionary, {"weights", "bias"}, "overwrites"),
    (Inner, {"layers.0.W", "layers.0.b"}, "overwrites"),
    (Tanh, set(), "returned"),
]


EACH_LAYER = pytest.mark.parametrize(
    ("make", "names", "how"), LAYERS, ids=lambda value: getattr(value, "__name__", None)
)


def given(make: Callable[[], Any]) -> Any:
    return torch.tensor(X) if make in (Adds, TorchGrad) else X


@EACH_LAYER
def test_parameters_and_the_convention_are_found(make: Callable[[], Any], names: set[str], how: str) -> None:
    subject = as_subject(make(), given(make))
    assert subject.form == "layer object"
    assert {operand.name for operand in subject.operands if operand.role == "parameter"} == names
    assert subject.traits.parameter_gradients == how
    if names:
        assert any(how in note for note in subject.notes)


@EACH_LAYER
def test_no_contract_finds_it_wrong(make: Callable[[], Any], names: set[str], how: str) -> None:
    subject = as_subject(make(), given(make))
    for check in CONTRACTS.values():
        for result in check(subject, CheckContext()):
            assert result.verdict in (Verdict.CORRECT, Verdict.NOT_APPLICABLE), str(result)


@EACH_LAYER
def test_values_reach_the_layer_in_either_dtype(make: Callable[[], Any], names: set[str], how: str) -> None:
    subject = as_subject(make(), given(make))
    for dtype in (torch.float64, torch.float32):
        values = {operand.name: (2 * operand.value).to(dtype) for operand in subject.operands}
        run = subject.run(values)
        assert run.outputs["y"].dtype == dtype
        found = run.backward({"y": torch.ones(run.outputs["y"].shape, dtype=dtype)})
        for name in names:
            gradient = found[name]
            assert gradient is not None
            assert gradient.dtype == dtype
            assert bool(gradient.abs().sum() > 0)


def test_the_layer_itself_is_left_alone() -> None:
    layer = Beside()
    subject = as_subject(layer, X)
    subject.run({"W": torch.zeros(5, 3, dtype=torch.float64)}).backward({"y": torch.ones(4, 3, dtype=torch.float64)})
    assert np.array_equal(layer.W, W0)
    assert not hasattr(layer, "dW")


def test_a_mapping_names_what_no_convention_finds() -> None:
    subject = as_subject(Unusual(), X, mapping={"kernel": "kernel_update"})
    assert [operand.name for operand in subject.operands] == ["x", "kernel"]
    with pytest.raises(SubjectError, match="mapping names the parameter 'weight'"):
        as_subject(Unusual(), X, mapping={"weight": "kernel_update"})


def test_a_loss_whose_backward_takes_nothing_is_scaled() -> None:
    subject = as_subject(MeanSquares(), X, X + 1, differentiable=["prediction"])
    run = subject.run({})
    gradient = run.backward({"y": torch.tensor(3.0, dtype=torch.float64)})["prediction"]
    assert gradient is not None
    assert torch.allclose(gradient, torch.full((4, 5), -6.0 / 20, dtype=torch.float64))
    assert any("takes no cotangent" in note for note in subject.notes)


def test_a_backward_with_more_arguments_is_refused() -> None:
    class Clips(Beside):
        def backward(self, dy: Any, largest: float) -> Any:  # type: ignore[override]
            return dy @ self.W.T

    with pytest.raises(SubjectError, match="backward of Clips takes 2 arguments"):
        as_subject(Clips(), X)


class HeldInLists(Lists):
    """Attributes that lists hold too."""

    def __init__(self) -> None:
        self.W, self.b = W0.copy(), B0.copy()
        self.params, self.grads = [self.W, self.b], [np.zeros_like(W0), np.zeros_like(B0)]


class OtherKeys(Dictionaries):
    """Gradients under dW, and something among the parameters that is not one."""

    def __init__(self) -> None:
        self.params: dict[str, Any] = {"W": W0.copy(), "b": B0.copy(), "mode": "train"}
        self.grads = {"dW": np.zeros_like(W0), "db": np.zeros_like(B0)}

    def backward(self, dy: Any) -> Any:
        self.grads["dW"] += self.cache.T @ dy
        self.grads["db"] += dy.sum(0)
        return dy @ self.params["W"].T


class ListedTensors(TorchGrad):
    def parameters(self) -> list[Tensor]:
        return [self.weight, self.bias]


class OneGradient(Unusual):
    """`grad` of the only parameter of its shape."""

    def __init__(self) -> None:
        self.kernel, self.scale = W0.copy(), np.ones(2)

    def backward(self, dy: Any) -> Any:
        self.grad = self.x.T @ dy
        return dy @ self.kernel.T


@pytest.mark.parametrize(
    ("make", "names", "how"),
    [
        (HeldInLists, {"W", "b"}, "overwrites"),
        (OtherKeys, {"W", "b"}, "adds"),
        (ListedTensors, {"weight", "bias"}, "adds"),
        (NewDictionary, {"weights", "bias"}, "overwrites"),
        (OneGradient, {"kernel"}, "overwrites"),
    ],
)
def test_rarer_conventions_are_found_and_give_the_gradients(make: Callable[[], Any], names: set[str], how: str) -> None:
    subject = as_subject(make(), torch.tensor(X) if issubclass(make, TorchGrad) else X)  # type: ignore[arg-type]
    assert {operand.name for operand in subject.operands if operand.role == "parameter"} == names
    assert subject.traits.parameter_gradients == how
    run = subject.run({operand.name: 2 * operand.value for operand in subject.operands})
    found = run.backward({"y": torch.ones(4, 3, dtype=torch.float64)})
    weight = next(name for name in names if found[name] is not None and found[name].dim() == 2)  # type: ignore[union-attr]
    torch.testing.assert_close(found[weight], torch.tensor(2 * X.T @ np.ones((4, 3))))
