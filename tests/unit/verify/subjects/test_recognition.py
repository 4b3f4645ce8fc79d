"""Each form of subject is recognized, named, and differentiated without touching what the user holds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nn_from_scratch.errors import ArgumentError, SubjectError
from nn_from_scratch.verify.protocol import Subject, starting_values
from nn_from_scratch.verify.subjects import FORMS, as_subject
from tests.functions import draw

X, W = draw(4, 5), draw(3, 5)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x * x * scale

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return 2 * ctx.scale * x * g, None


class SetupSquare(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return 2 * x * g


def names(subject: Subject) -> list[str]:
    return [operand.name for operand in subject.operands]


def gradients(subject: Subject) -> dict[str, Tensor | None]:
    run = subject.run({})
    return dict(run.backward({name: torch.ones_like(y) for name, y in run.outputs.items() if y.is_floating_point()}))


def right(value: Tensor | None, expected: Tensor) -> bool:
    return value is not None and torch.allclose(value, expected, atol=1e-12)


@pytest.mark.parametrize("given", [Square, Square.apply], ids=["class", "apply"])
def test_a_function_is_named_by_its_forward(given: Any) -> None:
    subject = as_subject(given, X, 3.0)
    assert (subject.name, subject.form) == ("Square", "autograd")
    assert names(subject) == ["x"]
    assert right(gradients(subject)["x"], 6 * X)


def test_a_function_with_setup_context_is_named_too() -> None:
    assert names(as_subject(SetupSquare, X)) == ["x"]


def test_a_builtin_without_a_signature_has_numbered_inputs() -> None:
    assert names(as_subject(torch.mul, X, X)) == ["input0", "input1"]


def test_names_can_be_given() -> None:
    assert names(as_subject(torch.mul, X, X, names=["a", "b"])) == ["a", "b"]
    with pytest.raises(ArgumentError, match="names has 1 entries, but one for each of 2 inputs is expected"):
        as_subject(torch.mul, X, X, names=["a"])


def test_a_captured_tensor_is_a_parameter() -> None:
    weight = W.clone().requires_grad_()
    subject = as_subject(lambda x: F.linear(x, weight), X)
    assert [(operand.name, operand.role, operand.required) for operand in subject.operands] == [
        ("x", "input", False),
        ("weight", "parameter", True),
    ]
    assert right(gradients(subject)["weight"], X.sum(0).expand(3, 5))
    moved = subject.forward({"weight": torch.zeros(3, 5, dtype=torch.float64)})
    assert bool((moved["y"] == 0).all())
    assert torch.equal(weight, W)
    assert weight.grad is None


def test_a_captured_tensor_takes_another_dtype_for_a_run_and_its_backward() -> None:
    weight = W.float().requires_grad_()
    subject = as_subject(lambda x: F.linear(x, weight), X.float())
    run = subject.run({name: value.double() for name, value in starting_values(subject).items()})
    found = run.backward({"y": torch.ones(4, 3, dtype=torch.float64)})
    assert found["weight"] is not None
    assert found["weight"].dtype == torch.float64
    assert weight.dtype == torch.float32


def test_a_captured_tensor_that_is_not_a_leaf_is_constant() -> None:
    leaf = W.clone().requires_grad_()
    weight = leaf * 2
    subject = as_subject(lambda x: F.linear(x, weight), X)
    assert names(subject) == ["x"]
    assert any("not a leaf" in note for note in subject.notes)


def test_a_captured_tensor_is_restored_when_the_subject_raises() -> None:
    weight = W.clone().requires_grad_()

    def fails(x: Tensor) -> Tensor:
        if bool((weight == 0).all()):
            raise ValueError("all zero")
        return F.linear(x, weight)

    subject = as_subject(fails, X)
    with pytest.raises(SubjectError, match="forward of fails raised ValueError: all zero") as caught:
        subject.forward({"weight": torch.zeros_like(W)})
    assert isinstance(caught.value.__cause__, ValueError)
    assert torch.equal(weight, W)


def test_a_torch_module_keeps_its_buffers_and_parameters() -> None:
    module = nn.BatchNorm1d(5).double()
    subject = as_subject(module, X)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for scale in (1.0, 2.0):
        subject.forward({"input": X * scale, "weight": torch.full((5,), scale, dtype=torch.float64)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert names(subject) == ["input", "weight", "bias"]
    assert "in training mode" in subject.notes


def test_a_frozen_parameter_of_a_torch_module_is_not_differentiated() -> None:
    module = nn.Linear(5, 3).double()
    module.bias.requires_grad_(False)
    operands = {operand.name: operand.differentiable for operand in as_subject(module, X).operands}
    assert operands == {"input": True, "weight": True, "bias": False}


def test_outputs_are_named_by_their_structure() -> None:
    def several(x: Tensor) -> dict[str, Any]:
        return {"mean": x.mean(0), "rest": (x.sin(), {"count": 3, "sign": x > 0})}

    assert list(as_subject(several, X).run({}).outputs) == ["mean", "rest.0", "rest.1.sign"]
    assert list(as_subject(lambda x: x.max(0), X).run({}).outputs) == ["y0", "y1"]


def test_inputs_may_be_nested_and_some_not_differentiable() -> None:
    def attend(pair: tuple[Tensor, Tensor], mask: Tensor, options: dict[str, Tensor]) -> Tensor:
        return torch.where(mask, pair[0] * pair[1], options["fill"])

    subject = as_subject(attend, (X, X + 1), X > 0, {"fill": X - 1})
    assert {operand.name: operand.differentiable for operand in subject.operands} == {
        "pair.0": True,
        "pair.1": True,
        "mask": False,
        "options.fill": True,
    }


def test_keyword_inputs_are_operands() -> None:
    first, second = as_subject(F.linear, X, keywords={"weight": W}).operands
    assert first.name in ("input0", "input") and second.name == "weight"


def test_requires_grad_says_what_is_differentiated() -> None:
    subject = as_subject(torch.mul, X.clone().requires_grad_(), X)
    assert [(operand.differentiable, operand.required) for operand in subject.operands] == [
        (True, True),
        (False, False),
    ]


def test_differentiable_overrides_it_and_names_what_is_there() -> None:
    subject = as_subject(torch.mul, X, X, names=["a", "b"], differentiable=["b"])
    assert [operand.differentiable for operand in subject.operands] == [False, True]
    with pytest.raises(ArgumentError, match=r"differentiable names 'c', but some of the inputs \(a, b\) are expected"):
        as_subject(torch.mul, X, X, names=["a", "b"], differentiable=["c"])
    with pytest.raises(ArgumentError, match=r"differentiable names 'b' of torch\.int64, but a floating"):
        as_subject(torch.mul, X, torch.ones(5, dtype=torch.int64), names=["a", "b"], differentiable=["b"])


def cached(x: Any, w: Any) -> tuple[Any, Any]:
    return x @ w.T, (x, w)


def cached_backward(dy: Any, cache: Any) -> tuple[Any, Any]:
    x, w = cache
    return dy @ w, dy.T @ x


@pytest.mark.parametrize("convert", [lambda t: t, lambda t: t.numpy()], ids=["torch", "numpy"])
def test_a_pair_with_a_cache(convert: Callable[[Tensor], Any]) -> None:
    subject = as_subject((cached, cached_backward), convert(X), convert(W))
    assert (subject.form, subject.traits.several_pending) == ("pair", True)
    assert right(gradients(subject)["w"], X.sum(0).expand(3, 5))


def test_a_pair_without_a_cache_is_run_again_when_its_state_is_stale() -> None:
    state: dict[str, Any] = {}

    def forward(x: Any) -> Any:
        state["x"] = x
        return x**2

    subject = as_subject((forward, lambda dy: 2 * state["x"] * dy), X.numpy())
    run = subject.run({})
    subject.forward({"x": X * 7})
    assert right(run.backward({"y": torch.ones(4, 5, dtype=torch.float64)})["x"], 2 * X)
    assert not subject.traits.several_pending


def test_a_pair_with_several_outputs() -> None:
    def forward(x: Any) -> Any:
        return (np.sin(x), np.cos(x)), x

    def together(dy: Any, x: Any) -> Any:
        return dy[0] * np.cos(x) - dy[1] * np.sin(x)

    expected = X.cos() - X.sin()
    assert right(gradients(as_subject((forward, together), X.numpy()))["x"], expected)

    def apart(a: Any, b: Any, x: Any) -> Any:
        return together((a, b), x)

    flat = (lambda x: (np.sin(x), np.cos(x), x), apart)
    assert right(gradients(as_subject(flat, X.numpy()))["x"], expected)


def test_gradients_by_name_are_matched() -> None:
    pair = (cached, lambda dy, cache: {"dw": dy.T @ cache[0], "x": dy @ cache[1]})
    assert right(gradients(as_subject(pair, X, W))["w"], X.sum(0).expand(3, 5))


@pytest.mark.parametrize(
    "wrong", [3, (cached,), object(), nn.Linear], ids=["number", "one function", "object", "class"]
)
def test_what_fits_no_form_is_refused_with_the_forms(wrong: object) -> None:
    with pytest.raises(SubjectError, match="these forms are known: engine module") as caught:
        as_subject(wrong, X)
    assert all(form in str(caught.value) for form in FORMS)


def test_an_option_of_another_form_is_refused() -> None:
    with pytest.raises(SubjectError, match=r"mapping= is for subjects of the form 'layer object'"):
        as_subject(torch.sin, X, mapping={"W": "dW"})


def test_a_sparse_tensor_whose_gradient_is_asked_for_is_refused() -> None:
    with pytest.raises(SubjectError, match="only dense strided tensors"):
        as_subject(torch.sin, X.to_sparse().requires_grad_())


def test_values_are_copied_with_their_layout() -> None:
    seen: list[tuple[int, ...]] = []

    def look(x: Tensor) -> Tensor:
        seen.append(x.stride())
        return x * 2

    subject = as_subject(look, X)
    subject.forward({"x": X.t().contiguous().t()})
    subject.forward({"x": X[:1].expand(4, 5)})
    assert seen[-2:] == [(1, 4), (0, 1)]
