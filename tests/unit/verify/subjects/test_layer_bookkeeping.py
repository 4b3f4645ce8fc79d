"""Where layers keep parameters and gradients: what the passes change is found, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.verify import Report, Verdict, check
from nn_from_scratch.verify.subjects import as_subject
from nn_from_scratch.verify.subjects.reachable import duplicate, held_tensors

GENERATOR = torch.Generator().manual_seed(0)
W0 = torch.randn(3, 4, generator=GENERATOR, dtype=torch.float64)
B0 = torch.randn(3, generator=GENERATOR, dtype=torch.float64)
X = torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64)


def zeros() -> tuple[Tensor, Tensor]:
    return torch.zeros_like(W0), torch.zeros_like(B0)


class Linear:
    """y = x Wᵀ + b; subclasses say where the gradients go, and `factor` makes them wrong."""

    factor = 1.0

    def __init__(self) -> None:
        self.weight, self.bias = W0.clone(), B0.clone()

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.weight.T + self.bias

    def gradients(self, dy: Any) -> tuple[Any, Any]:
        return self.factor * dy.T @ self.x, self.factor * dy.sum(0)

    def backward(self, dy: Any) -> Any:
        self.keep(*self.gradients(dy))
        return dy @ self.weight

    def keep(self, dw: Any, db: Any) -> None:
        raise NotImplementedError


class RebindsGrad(Linear):
    """`.grad` made in the constructor, and another tensor after each backward."""

    def __init__(self) -> None:
        super().__init__()
        self.weight.grad, self.bias.grad = zeros()

    def keep(self, dw: Any, db: Any) -> None:
        self.weight.grad, self.bias.grad = dw, db


class RebindsPairs(RebindsGrad):
    def param(self) -> Any:
        return [(self.weight, self.weight.grad), (self.bias, self.bias.grad)]


class AddsToGrad(RebindsGrad):
    def keep(self, dw: Any, db: Any) -> None:
        self.weight.grad += dw
        self.bias.grad += db


class ListsValues(Linear):
    """`param()` gives the tensors; the gradients stand beside them."""

    def keep(self, dw: Any, db: Any) -> None:
        self.grad_weight, self.grad_bias = dw, db

    def param(self) -> Any:
        return [self.weight, self.bias]


class ListsAll(Linear):
    """`param()` gives values and gradients in one list."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_grad, self.bias_grad = zeros()

    def keep(self, dw: Any, db: Any) -> None:
        self.weight_grad += dw
        self.bias_grad += db

    def param(self) -> Any:
        return [self.weight, self.bias, self.weight_grad, self.bias_grad]


class Box:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Boxes(Linear):
    """Values and gradients in objects of their own, listed in pairs."""

    def __init__(self) -> None:
        self.w, self.b = Box(W0.clone()), Box(B0.clone())
        self.first, self.second = map(Box, zeros())

    weight = property(lambda self: self.w.value)
    bias = property(lambda self: self.b.value)

    def keep(self, dw: Any, db: Any) -> None:
        self.first.value, self.second.value = dw, db

    def param(self) -> Any:
        return [(self.w, self.first), (self.b, self.second)]


class Pairs(Linear):
    """An attribute that pairs each value with its gradient."""

    def __init__(self) -> None:
        self.params = [[W0.clone(), zeros()[0]], [B0.clone(), zeros()[1]]]

    weight = property(lambda self: self.params[0][0])
    bias = property(lambda self: self.params[1][0])

    def keep(self, dw: Any, db: Any) -> None:
        self.params[0][1], self.params[1][1] = dw, db


class Nested(Linear):
    """Dictionaries of dictionaries."""

    def __init__(self) -> None:
        self.params = {"affine": {"W": W0.clone(), "b": B0.clone()}}
        self.grads: dict[str, dict[str, Any]] = {"affine": {}}

    weight = property(lambda self: self.params["affine"]["W"])
    bias = property(lambda self: self.params["affine"]["b"])

    def keep(self, dw: Any, db: Any) -> None:
        self.grads["affine"] = {"dW": dw, "db": db}


class Tuples(Linear):
    def __init__(self) -> None:
        self.parameters = (W0.clone(), B0.clone())

    weight = property(lambda self: self.parameters[0])
    bias = property(lambda self: self.parameters[1])

    def keep(self, dw: Any, db: Any) -> None:
        self.gradients_of_parameters = (dw, db)


class LookedUp(Linear):
    """Attributes that are looked up in a dictionary, which `copy.deepcopy` cannot take."""

    def __init__(self) -> None:
        self._held = {"weight": W0.clone(), "bias": B0.clone()}

    def __getattr__(self, name: str) -> Any:
        if name in self._held:
            return self._held[name]
        raise AttributeError(name)

    def keep(self, dw: Any, db: Any) -> None:
        self._held |= {"dweight": dw, "dbias": db}


class MadeInForward(Linear):
    """Weights whose sizes the first forward finds out."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {"W": None, "b": None}
        self.gradients_held: dict[str, Any] = {}

    weight = property(lambda self: self.parameters["W"])
    bias = property(lambda self: self.parameters["b"])

    def forward(self, x: Any) -> Any:
        if self.parameters["W"] is None:
            self.parameters = {"W": W0[:, : x.shape[1]].clone(), "b": B0.clone()}
        return super().forward(x)

    def keep(self, dw: Any, db: Any) -> None:
        self.grads = {"W": dw, "b": db}


class Uninitialized(Linear):
    """A bias as `torch.empty` may leave it."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.full((3,), 5e-310, dtype=torch.float64)

    def keep(self, dw: Any, db: Any) -> None:
        self.dweight, self.dbias = dw, db


LAYERS = [
    RebindsGrad,
    RebindsPairs,
    AddsToGrad,
    ListsValues,
    ListsAll,
    Boxes,
    Pairs,
    Nested,
    Tuples,
    LookedUp,
    MadeInForward,
    Uninitialized,
]


@pytest.mark.parametrize("make", LAYERS)
def test_a_right_layer_is_right_with_two_parameters(make: type[Linear]) -> None:
    report = check(make(), X)
    assert report.passed, str(report)
    assert len([r for r in report.results if r.check == "gradient"]) == 3
    assert not any("not looked at" in note for note in report.notes)


@pytest.mark.parametrize("make", LAYERS)
def test_wrong_gradients_of_its_parameters_are_found(make: type[Linear]) -> None:
    wrong: Any = type("Wrong", (make,), {"factor": 2.0})
    report = check(wrong(), X, checks="gradient")
    found = [r.verdict for r in report.results if r.tensor != "x"]
    assert found == [Verdict.WRONG, Verdict.WRONG], str(report)


def test_what_the_forward_saved_is_no_parameter() -> None:
    class Held:
        def __init__(self) -> None:
            self.p = self.t = None

        def param(self) -> Any:
            return [[self.p, self.t]]

        def forward(self, p: Any, t: Any) -> Any:
            self.p, self.t = p, t
            return ((p - t) ** 2).mean()

        def backward(self) -> Any:
            assert self.p is not None
            return 2 * (self.p - self.t) / self.p.numel()

    report = check(Held(), X.clone().requires_grad_(), X.flip(0))
    assert report.passed and {r.tensor for r in report.results if r.check == "gradient"} == {"p"}, str(report)


@pytest.mark.parametrize("shape", [(0,), (5, 4)])
def test_an_unused_attribute_beside_the_gradient_of_the_input_is_no_parameter(shape: tuple[int, ...]) -> None:
    class Keeps:
        def __init__(self) -> None:
            self.x, self.gradx = torch.zeros(shape, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)

        def forward(self, x: Any) -> Any:
            return 2 * x

        def backward(self, dy: Any) -> Any:
            self.gradx = 2 * dy
            return self.gradx

    report = check(Keeps(), X)
    assert report.passed and {r.tensor for r in report.results if r.check == "gradient"} == {"x"}, str(report)


def test_a_parameter_that_two_paths_reach_is_one() -> None:
    class Net(Linear):
        def __init__(self) -> None:
            self.weight, self.dweight = W0.clone(), torch.zeros_like(W0)

        def forward(self, x: Any) -> Any:
            self.x = x
            return x @ self.weight.T

        def backward(self, dy: Any) -> Any:
            self.dweight += dy.T @ self.x
            return dy @ self.weight

    class Loss:
        def __init__(self, net: Net) -> None:
            self.net = net

        def forward(self, y: Any) -> Any:
            self.y = y
            return (y**2).mean()

        def backward(self) -> Any:
            return self.net.backward(2 * self.y / self.y.numel())

    class Whole:
        def __init__(self) -> None:
            self.net = Net()
            self.loss = Loss(self.net)

        def forward(self, x: Any) -> Any:
            return self.loss.forward(self.net.forward(x))

        def backward(self) -> Any:
            return self.loss.backward()

    report = check(Whole(), X)
    assert report.passed, str(report)
    assert {r.tensor for r in report.results if r.check == "gradient"} == {"x", "net.weight"}


class NoBias(Linear):
    """The gradient of b is never made."""

    def keep(self, dw: Any, db: Any) -> None:
        self.dweight = dw


class ListedAlone(Linear):
    """As NoBias, under names of its own, listed as parameters."""

    def __init__(self) -> None:
        self.slope, self.offset = W0.clone(), B0.clone()

    weight = property(lambda self: self.slope)
    bias = property(lambda self: self.offset)

    def keep(self, dw: Any, db: Any) -> None:
        self.dslope = dw

    def param(self) -> Any:
        return [self.slope, self.offset]


@pytest.mark.parametrize(("make", "name"), [(NoBias, "bias"), (ListedAlone, "offset")])
def test_a_gradient_without_a_field_has_been_forgotten(make: type[Linear], name: str) -> None:
    report = check(make(), X, checks="gradient")
    assert [r.tensor for r in report.results if r.verdict is Verdict.WRONG] == [name], str(report)


def declared(make: type[Linear], mapping: dict[str, str]) -> Report:
    return check(make(), X, checks="gradient", mapping=mapping)


def test_a_mapping_that_leaves_a_parameter_out_declares_it_constant() -> None:
    assert declared(NoBias, {"weight": "dweight"}).passed


class Standardizes:
    """Constants that its output depends on, and a mean that it only keeps."""

    def __init__(self) -> None:
        self.scale, self.mask = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0, 1.0, 1.0])
        self.running_mean = np.zeros(4)

    def forward(self, x: Any) -> Any:
        self.running_mean = 0.9 * self.running_mean + 0.1 * x.mean(0)
        return x * self.scale * self.mask

    def backward(self, dy: Any) -> Any:
        return dy * self.scale * self.mask


def test_constants_are_named_as_not_looked_at() -> None:
    report = check(Standardizes(), X.numpy())
    assert report.passed, str(report)
    assert any(note.startswith("not looked at: scale, mask (") for note in report.notes), report.notes


def test_constants_beside_a_parameter_are_not_accused() -> None:
    class Scaled(Linear):
        def __init__(self) -> None:
            super().__init__()
            self.mask, self.eps = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64), np.array(1e-3)

        def forward(self, x: Any) -> Any:
            return (super().forward(x)) * self.mask + float(self.eps)

        def backward(self, dy: Any) -> Any:
            return super().backward(dy * self.mask)

        def keep(self, dw: Any, db: Any) -> None:
            self.dweight, self.dbias = dw, db

    report = check(Scaled(), X)
    assert report.passed, str(report)
    assert any("not looked at: mask, eps" in note for note in report.notes), report.notes


def test_a_loss_is_scaled_onto_gradients_that_are_there() -> None:
    class Loss(Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x).sum()

        def backward(self) -> Any:  # type: ignore[override]
            dy = torch.ones(len(self.x), 3, dtype=torch.float64)
            return super().backward(dy)

        def keep(self, dw: Any, db: Any) -> None:
            self.dweight = getattr(self, "dweight", 0) + dw
            self.dbias = getattr(self, "dbias", 0) + db

    layer = Loss()
    layer.dweight, layer.dbias = zeros()
    subject = as_subject(layer, X)
    held = {"weight": torch.ones(3, 4, dtype=torch.float64), "bias": torch.ones(3, dtype=torch.float64)}
    onto = subject.run({}).backward_onto({"y": torch.tensor(2.0, dtype=torch.float64)}, held)
    assert onto["bias"] is not None and torch.equal(onto["bias"], torch.full((3,), 1 + 2.0 * 5, dtype=torch.float64))


def test_objects_are_walked_once_and_cycles_end() -> None:
    layer: Any = Boxes()
    layer.itself = [layer, {"again": layer.w}]
    found = held_tensors(layer)
    assert list(found) == [("w", "value"), ("b", "value"), ("first", "value"), ("second", "value")]
    twin = duplicate(layer)
    assert twin.itself[0] is twin and twin.itself[1]["again"] is twin.w and twin.w.value is not layer.w.value


def test_a_copy_of_looked_up_attributes_is_whole() -> None:
    owner = Box([LookedUp(), LookedUp()])
    owner.value.append(owner.value[0])
    twin = duplicate(owner)
    first, second, again = twin.value
    assert first is again and first is not second and first is not owner.value[0]
    assert torch.equal(first.weight, W0) and first.weight is not owner.value[0].weight


class Slope:
    """One parameter without axes, whose gradient is a number."""

    factor = 1.0

    def __init__(self) -> None:
        self.alpha: Any = np.array(0.25)

    def forward(self, x: Any) -> Any:
        self.x = x
        return np.where(x > 0, x, self.alpha * x)

    def backward(self, dy: Any) -> Any:
        self.dalpha = self.factor * (dy * np.where(self.x > 0, 0, self.x)).sum()
        return dy * np.where(self.x > 0, 1, self.alpha)


def test_a_number_is_the_gradient_of_a_parameter_without_axes() -> None:
    report = check(Slope(), X.numpy())
    assert report.passed and {r.tensor for r in report.results if r.check == "gradient"} == {"x", "alpha"}, str(report)

    class Wrong(Slope):
        factor = 2.0

    found = {r.tensor: r.verdict for r in check(Wrong(), X.numpy(), checks="gradient").results}
    assert found == {"x": Verdict.CORRECT, "alpha": Verdict.WRONG}


def test_a_python_float_with_a_gradient_is_named_as_not_looked_at() -> None:
    layer = Slope()
    layer.alpha = 0.25
    notes = check(layer, X.numpy(), checks="gradient").notes
    assert "not looked at: alpha (a Python float; make it an array to have it checked)" in notes
