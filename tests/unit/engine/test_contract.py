"""What a module promises: records and marks, backward, cotangents, losses, clearing, moving, purity, copies."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.engine.graph import Record
from nn_from_scratch.errors import (
    AmbiguousRecordError,
    MissingRecordError,
    ModifiedTensorError,
    RecordError,
    ShapeError,
)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def linear(inputs: int = 3, outputs: int = 3) -> nn.Linear:
    return nn.Linear(inputs, outputs, dtype=torch.float64)


class Sum(nn.Layer):
    """x1 + x2, written as a user would."""

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return x1 + x2

    def input_vjp(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        return g, g


class Residual(nn.Container):
    """x + relu(x) through a layer that joins."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.ReLU()
        self.join = Sum()

    def forward(self, x: Tensor) -> Tensor:
        return self.join(x, self.inside(x))


# records and marks


def test_call_keeps_the_input_and_marks_the_output() -> None:
    module, x = nn.ReLU(), randn(3)
    y = module(x)
    assert vars(y)["creator"] is module
    assert module.xs[vars(y)["input_index"]] is x


def test_sequential_marks_the_output_with_itself() -> None:
    model, x = nn.Sequential(nn.ReLU(), nn.Sigmoid()), randn(3)
    y = model(x)
    assert vars(y)["creator"] is model
    assert model.xs[vars(y)["input_index"]] is x


def test_an_index_is_not_used_again_after_clearing() -> None:
    module = nn.ReLU()
    first = module(randn(3))
    module.clear_saved_tensors()
    second = module(randn(3))
    assert vars(first)["input_index"] != vars(second)["input_index"]


# backward


def test_backward_adds_to_grad_and_returns_the_input_gradient() -> None:
    layer, x, g = linear(), randn(2, 3), randn(2, 3)
    layer.weight.grad = torch.ones_like(layer.weight)
    layer(x)
    assert torch.equal(layer.backward(g), g @ layer.weight)  # type: ignore[arg-type]  # one input, so one tensor
    assert torch.allclose(layer.weight.grad, 1 + g.T @ x)


def test_a_layer_used_twice_gets_the_gradients_of_both_uses() -> None:
    layer, x, g = linear(), randn(2, 3), randn(2, 3)
    y = nn.Sequential(layer, nn.Sigmoid(), layer)(x)
    found = nn.backward(y, g)

    w, b, leaf = (t.clone().requires_grad_() for t in (layer.weight, layer.bias, x) if t is not None)
    F.linear(F.linear(leaf, w, b).sigmoid(), w, b).backward(g)
    for mine, reference in ((layer.weight.grad, w.grad), (found, leaf.grad)):
        assert isinstance(mine, Tensor) and reference is not None
        torch.testing.assert_close(mine, reference, rtol=1e-13, atol=1e-14)


def test_one_relu_object_in_two_places() -> None:
    relu, first, second = nn.ReLU(), linear(), linear()
    x, g = randn(5, 3), randn(5, 3)
    found = nn.backward(nn.Sequential(relu, first, relu, second)(x), g)
    leaf = x.clone().requires_grad_()
    h = torch.relu(F.linear(torch.relu(leaf), first.weight, first.bias))
    F.linear(h, second.weight, second.bias).backward(g)
    torch.testing.assert_close(found, leaf.grad, rtol=1e-13, atol=1e-14)


def test_nested_sequentials_with_unequal_numbers_of_runs() -> None:
    inner = nn.Sequential(linear(), nn.Sigmoid())
    model = nn.Sequential(nn.Sequential(inner, nn.ReLU()), inner, nn.Sequential())
    inner(randn(1, 3))  # the modules inside have one record more than the outer ones
    x, g = randn(2, 3), randn(2, 3)
    found = nn.backward(model(x), g)
    layer = inner[0]
    assert isinstance(layer, nn.Linear) and layer.bias is not None
    leaf = x.clone().requires_grad_()
    w = layer.weight.clone().requires_grad_()
    h = torch.sigmoid(leaf @ w.T + layer.bias)
    torch.sigmoid(torch.relu(h) @ w.T + layer.bias).backward(g)
    torch.testing.assert_close(found, leaf.grad, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(layer.weight.grad, w.grad, rtol=1e-13, atol=1e-14)


def test_thirty_residual_blocks_visit_each_record_once(monkeypatch: pytest.MonkeyPatch) -> None:
    visits = 0
    original = nn.Layer.local_backward

    def counted(self: nn.Layer, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
        nonlocal visits
        visits += 1
        return original(self, g, record)

    monkeypatch.setattr(nn.Layer, "local_backward", counted)
    x = torch.ones(2, dtype=torch.float64)
    found = nn.backward(nn.Sequential(*[Residual() for _ in range(30)])(x))
    assert visits == 60
    assert torch.equal(found, torch.full_like(x, 2.0**30))  # type: ignore[arg-type]  # one input, so one tensor


def test_a_branch_that_is_not_reached_from_the_start_contributes_nothing() -> None:
    layer, head, other = linear(), nn.Sigmoid(), nn.ReLU()
    h = layer(randn(2, 3))
    y = head(h)
    other(h)
    g = randn(2, 3)
    nn.backward(y, g)
    assert layer.bias is not None and layer.bias.grad is not None
    expected = (y * (1 - y) * g).sum(0)
    torch.testing.assert_close(layer.bias.grad, expected, rtol=1e-13, atol=1e-14)


def test_a_chain_of_five_thousand_layers_needs_no_recursion() -> None:
    x = randn(2).abs()
    assert torch.equal(nn.backward(nn.Sequential(*[nn.ReLU()] * 5000)(x)), torch.ones(2).double())  # type: ignore[arg-type]  # one input


def test_the_output_is_never_the_input_object() -> None:
    class Identity(nn.Layer):
        def forward(self, x: Tensor) -> Tensor:
            return x

        def input_vjp(self, g: Tensor, record: Record) -> Tensor:
            return g

    x, g = randn(3), randn(3)
    layer = Identity()
    y = nn.Sequential(layer, nn.Sequential(), layer)(x)
    assert y is not x and "creator" not in vars(x)
    found = nn.backward(y, g)
    assert isinstance(found, Tensor) and torch.equal(found, g)
    assert found.data_ptr() != g.data_ptr()


def test_a_use_that_propagates_nothing_does_not_block_the_other_uses() -> None:
    class First(nn.Layer):
        """Its value, and so its gradient, depend on the first input alone."""

        def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
            return x1 * 1

        def input_vjp(self, g: Tensor, record: Record) -> tuple[Tensor | None, ...]:
            return g, None

    class Branching(nn.Container):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.side, self.join = nn.Sigmoid(), nn.ReLU(), First()

        def forward(self, x: Tensor) -> Tensor:
            h = self.trunk(x)
            return self.join(h, self.side(h))

    y = Branching()(randn(3))
    torch.testing.assert_close(nn.backward(y), y * (1 - y), rtol=1e-13, atol=1e-14)


# cotangents without an index


def test_a_cotangent_without_index_is_accepted_where_one_record_is_pending() -> None:
    module, x = nn.ReLU(), randn(3)
    module(x)
    assert torch.equal(module.backward(torch.ones_like(x)), (x > 0).double())  # type: ignore[arg-type]  # one input


def test_a_cotangent_without_index_is_refused_where_it_is_ambiguous() -> None:
    module = nn.ReLU()
    module(randn(3)), module(randn(3))
    with pytest.raises(AmbiguousRecordError, match=r"has no input_index, and 2 records are pending \(0, 1\)"):
        module.backward(randn(3))


def test_the_index_of_a_cotangent_chooses_the_record() -> None:
    module, first, second = nn.Sigmoid(), randn(3), randn(3)
    y = module(first)
    module(second)
    g = torch.ones_like(y)
    vars(g)["input_index"] = vars(y)["input_index"]
    torch.testing.assert_close(module.backward(g), y * (1 - y))


def test_backward_of_a_tensor_uses_ones_by_default() -> None:
    x = randn(4)
    assert torch.equal(nn.backward(nn.ReLU()(x)), (x > 0).double())  # type: ignore[arg-type]  # one input


def test_backward_of_a_tensor_without_creator_is_refused() -> None:
    with pytest.raises(RecordError, match="y has no creator"):
        nn.backward(randn(3))


def test_a_cotangent_of_another_shape_is_refused() -> None:
    y = nn.ReLU()(randn(3))
    with pytest.raises(ShapeError, match=r"gradwrtoutput of ReLU\(\) has shape \(4,\).* has shape \(3,\)"):
        nn.backward(y, randn(4))


# MSE


def test_mse_propagates_every_remembered_pair() -> None:
    layer, loss = linear(), nn.MSE()
    xs, targets = [randn(2, 3), randn(4, 3)], [randn(2, 3), randn(4, 3)]
    for x, target in zip(xs, targets, strict=True):
        loss(layer(x), target)
    loss.backward()
    w = layer.weight.clone().requires_grad_()
    torch.stack([F.mse_loss(F.linear(x, w, layer.bias), t) for x, t in zip(xs, targets, strict=True)]).sum().backward()
    torch.testing.assert_close(layer.weight.grad, w.grad, rtol=1e-13, atol=1e-14)


def test_one_pair_alone_can_be_propagated() -> None:
    layer, loss = linear(), nn.MSE()
    x, target = randn(2, 3), randn(2, 3)
    first = loss(layer(x), target)
    loss(layer(randn(2, 3)), target)
    nn.backward(first)
    w = layer.weight.clone().requires_grad_()
    F.mse_loss(F.linear(x, w, layer.bias), target).backward()
    torch.testing.assert_close(layer.weight.grad, w.grad, rtol=1e-13, atol=1e-14)


def test_the_loss_forgets_pairs_of_cleared_records() -> None:
    model, loss = nn.Sequential(linear(), nn.ReLU()), nn.MSE()
    head = nn.Sigmoid()  # not part of the model: its record goes with the one that it was computed from
    loss(head(model(randn(2, 3))), randn(2, 3))
    other = linear()
    kept = loss(other(randn(2, 3)), randn(2, 3))
    nn.SGD(model, lr=0.1).zero_grad()
    assert not head.xs
    assert list(loss.xs) == [vars(kept)["input_index"]]


def test_the_loss_remembers_the_error() -> None:
    loss, prediction, target = nn.MSE(), randn(3), randn(3)
    value = loss(prediction, target)
    (error,) = loss.record_at(vars(value)["input_index"]).saved
    assert torch.equal(error, prediction - target)


def test_backward_without_any_pair_is_refused() -> None:
    with pytest.raises(MissingRecordError, match=r"MSE\(\) remembers no pair"):
        nn.MSE().backward()


# the graph is kept by backward, and freed by zero_grad


def test_backward_twice_adds_twice() -> None:
    layer = linear()
    y, g = layer(randn(2, 3)), randn(2, 3)
    nn.backward(y, g)
    once = layer.weight.grad
    assert once is not None
    nn.backward(y, g)
    assert torch.equal(layer.weight.grad, once + once)  # type: ignore[arg-type]  # set by the line above


def test_zero_grad_clears_gradients_and_records_of_every_module() -> None:
    model = nn.Sequential(linear(), nn.Sequential(nn.ReLU(), linear()))
    optimizer = nn.SGD(model, lr=0.1)
    nn.backward(model(randn(2, 3)))
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters().values())
    assert all(not module.xs for module in model.all_modules() if isinstance(module, nn.Module))


def test_no_activation_is_alive_after_zero_grad() -> None:
    alive: list[weakref.ref[Tensor]] = []

    class Watching(nn.Sigmoid):
        def forward(self, x: Tensor) -> nn.Saving:
            result = super().forward(x)
            alive.extend(weakref.ref(tensor) for tensor in (x, result.y))
            return result

    model, loss = nn.Sequential(Watching(), Residual(), Watching()), nn.MSE()
    gc.disable()  # freed by counting references alone, not by the collector some time later
    try:
        loss(model(randn(2, 3)), randn(2, 3))
        loss.backward()
        assert any(reference() is not None for reference in alive)
        nn.SGD(model, lr=0.1).zero_grad()
        assert all(reference() is None for reference in alive)
    finally:
        gc.enable()


def test_backward_after_clearing_is_refused() -> None:
    layer = linear()
    y = layer(randn(2, 3))
    layer.clear_saved_tensors()
    with pytest.raises(MissingRecordError, match=r"input_index 0 of Linear\(3, 3\) has no record \(pending: none\)"):
        nn.backward(y)
    with pytest.raises(MissingRecordError, match="run a forward pass before backward"):
        layer.backward(randn(2, 3))


def test_an_input_whose_source_was_cleared_is_refused() -> None:
    first, second = linear(), linear()
    h = first(randn(2, 3))
    first.clear_saved_tensors()
    with pytest.raises(MissingRecordError, match="or detach the tensor that carries it"):
        nn.backward(second(h))
    second.clear_saved_tensors()
    nn.backward(second(h.detach()))


@pytest.mark.parametrize("what", ["input 0", "parameter 'weight'", "saved tensor 0"])
def test_a_tensor_that_moved_since_the_forward_pass_is_refused(what: str) -> None:
    layer, head = linear(), nn.Sigmoid()
    x = randn(2, 3)
    y = head(layer(x))
    {"input 0": x, "parameter 'weight'": layer.weight, "saved tensor 0": y}[what].add_(1)
    with pytest.raises(ModifiedTensorError, match=f"{what} of .* was modified or replaced after the forward pass"):
        nn.backward(y)


def test_parameters_that_were_replaced_are_refused() -> None:
    layer = linear()
    y = layer(randn(2, 3))
    layer.to(dtype=torch.float32)
    with pytest.raises(ModifiedTensorError, match="parameter 'weight' of Linear"):
        nn.backward(y)


def test_no_records_remembers_nothing() -> None:
    model = nn.Sequential(linear(), nn.ReLU())
    with nn.no_records():
        y = model(randn(2, 3))
    assert not model.xs and "creator" not in vars(y)
    assert vars(model(randn(2, 3)))["creator"] is model


# optimizers take the model; moving keeps names and sharing


def test_shared_parameters_stay_shared_when_moved() -> None:
    first, second = linear(), linear()
    second.weight = first.weight
    model = nn.Sequential(first, second)
    assert list(model.parameters()) == ["0.weight", "0.bias", "1.bias"]
    model.to(dtype=torch.float32)
    assert first.weight is second.weight and first.weight.dtype == torch.float32


def test_to_moves_gradients_too() -> None:
    layer = linear()
    nn.backward(layer(randn(2, 3)))
    layer.to(dtype=torch.float32)
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32


def test_optimizer_state_follows_the_parameters() -> None:
    layer = linear()
    optimizer = nn.SGD(layer, lr=0.1, momentum=0.9)
    for dtype in (torch.float64, torch.float32):
        layer.to(dtype=dtype)
        optimizer.zero_grad()
        nn.backward(layer(randn(2, 3).to(dtype)))
        optimizer.step()
    assert optimizer.state_dict()["momentum.weight"].dtype == torch.float32


# no grad_fn, nothing modified


def test_nothing_returned_carries_a_graph() -> None:
    layer, loss = linear(), nn.MSE()
    x = randn(2, 3).requires_grad_()
    y = nn.Sequential(layer, nn.Flatten(), nn.Sequential())(x)
    value = loss(y, randn(2, 3).requires_grad_())
    gradients = loss.backward(torch.ones_like(value).requires_grad_())
    assert isinstance(gradients, tuple)
    for tensor in (y, value, *gradients, layer.weight.grad):
        assert tensor is not None and tensor.grad_fn is None and not tensor.requires_grad


def test_inputs_and_cotangents_are_not_modified() -> None:
    model = nn.Sequential(linear(), nn.ReLU(), nn.Flatten(), nn.Sigmoid())
    x, g = randn(2, 3), randn(2, 3)
    before = x.clone(), g.clone()
    nn.backward(model(x), g)
    assert torch.equal(x, before[0]) and torch.equal(g, before[1])
    assert not vars(x) and not vars(g)


def test_a_returned_gradient_is_the_callers_own() -> None:
    g = randn(2, 3)
    y = Sum()(randn(2, 3), randn(2, 3))
    gradients = nn.backward(y, g)
    assert isinstance(gradients, tuple)
    assert len({tensor.data_ptr() for tensor in (g, *gradients) if tensor is not None}) == 3


def test_a_parameter_gradient_does_not_share_memory_with_the_cotangent() -> None:
    class Shift(nn.Layer):
        parameter_names = ("shift",)

        def __init__(self) -> None:
            super().__init__()
            self.shift = randn(3)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.shift

        def input_vjp(self, g: Tensor, record: Record) -> Tensor:
            return g

        def parameter_vjps(self, g: Tensor, record: Record) -> dict[str, Tensor]:
            return {"shift": g}

    layer, g = Shift(), randn(3)
    nn.backward(layer(randn(3)), g)
    assert layer.shift.grad is not None
    assert layer.shift.grad.data_ptr() != g.data_ptr()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_the_same_without_grad_and_under_inference_mode(mode: type) -> None:
    model, x, g = nn.Sequential(linear(), nn.Sigmoid()), randn(2, 3), randn(2, 3)
    expected = nn.backward(model(x), g)
    with mode():
        found = nn.backward(model(x), g)
    assert torch.equal(found, expected)  # type: ignore[arg-type]  # one input, so one tensor


# initialization stands in test_initialization.py; copies


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])  # noqa: S301  # our own bytes
def test_a_copy_has_the_parameters_and_none_of_the_records(duplicate: object) -> None:
    assert callable(duplicate)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.TransposeConv2d(2, 1, 3))
    model(torch.randn(1, 1, 5, 5))
    other = duplicate(model)
    assert isinstance(other, nn.Sequential)
    assert repr(other) == repr(model) and not other.xs
    for name, parameter in model.parameters().items():
        assert torch.equal(other.parameters()[name], parameter)
    other(torch.randn(1, 1, 5, 5))


# how much of the package takes part


@pytest.mark.parametrize("algorithm", ["native", "unfold"])
@pytest.mark.parametrize("make", [nn.Conv2d, nn.TransposeConv2d])
def test_a_convolution_and_its_backward_go_through_eight_files_at_most(
    make: type[nn.Conv2d | nn.TransposeConv2d], algorithm: str
) -> None:
    x, g = torch.ones(2, 3, 6, 6), torch.ones(2, 4, 5, 5)
    files: set[str] = set()
    calls: Counter[str] = Counter()

    def follow(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and "/engine/" in Path(frame.f_code.co_filename).as_posix():
            files.add(Path(frame.f_code.co_filename).name)
            calls[frame.f_code.co_name] += 1

    sys.setprofile(follow)
    try:
        layer = make(3, 4, 2, padding=0 if make is nn.Conv2d else 1, algorithm=algorithm)
        y = layer(x)
        sizes, records = calls["output_size"] + calls["transposed_size"], calls["record_at"]
        layer.backward(g)
    finally:
        sys.setprofile(None)
    assert y.shape == g.shape
    assert len(files) <= 8, files
    assert sizes == 1 and calls["output_size"] + calls["transposed_size"] == 1  # none in the backward
    assert records == 0 and calls["record_at"] == 1
