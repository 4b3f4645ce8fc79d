"""Records that let go of what they hold: the same gradients from less memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from math import nan
from typing import Any

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.engine import graph
from nn_from_scratch.engine.graph import Placeholder, creator_of, release_records
from nn_from_scratch.errors import MissingRecordError
from nn_from_scratch.parity.specs import LAYERS
from nn_from_scratch.verify.catalogue import Spec
from nn_from_scratch.verify.catalogue.building import build, draw_inputs

SPECS = [
    pytest.param(spec, id=spec.name)
    for spec in LAYERS
    if isinstance(spec.subject, type) and issubclass(spec.subject, nn.Layer)
]


def nothing_in_it(x: Tensor) -> Tensor:
    return torch.full((), nan if x.is_floating_point() else 99, dtype=x.dtype).expand(x.shape)


def gradients(spec: Spec, place: int) -> list[Tensor | None]:
    case = spec.cases[place]
    layer = build(spec, case)
    if getattr(layer, "generator", None) is not None:
        layer.generator.manual_seed(0)
    y = layer(*draw_inputs(case))
    found = nn.backward(y, torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape))
    return [*(found if isinstance(found, tuple) else (found,)), *(p.grad for p in layer.parameters().values())]


def agree(spec: Spec, place: int, known: list[Tensor | None]) -> bool:
    try:
        found = gradients(spec, place)
    except (RuntimeError, IndexError):  # of numbers that are not classes
        return False
    return all(one is None or other is None or torch.equal(one, other) for one, other in zip(found, known, strict=True))


@pytest.mark.parametrize("spec", SPECS)
def test_a_layer_says_whether_its_derivative_looks_at_inputs(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [gradients(spec, place) for place in range(len(spec.cases))]
    needs = spec.subject.needs_inputs
    monkeypatch.setattr(graph, "Placeholder", nothing_in_it)
    monkeypatch.setattr(spec.subject, "needs_inputs", False)
    with release_records():
        same = [agree(spec, place, known) for place, known in enumerate(expected)]
    assert all(same) is not needs


def run(model: nn.Module, x: Tensor, target: Tensor) -> list[Tensor | None]:
    criterion = nn.MSE()
    criterion(model(x), target)
    criterion.backward()
    return [p.grad for p in model.parameters().values()]


def test_gradients_are_those_without() -> None:
    x, target = (torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    expected = run(report_model(generator=torch.Generator().manual_seed(1)), x, target)
    with release_records():
        found = run(report_model(generator=torch.Generator().manual_seed(1)), x, target)
    for one, other in zip(found, expected, strict=True):
        assert one is not None and other is not None and torch.equal(one, other)


def test_branches_that_join_are_released_when_all_have_contributed() -> None:
    class Branching(nn.Container):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.add = nn.Linear(3, 3), nn.Tanh(), nn.Add()

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            z: Tensor = self.add(self.second(y), self.second(self.second(y)))
            return z

    model, x = Branching(), torch.rand(2, 3)
    found: list[Tensor] = []
    for around in (torch.no_grad(), release_records()):
        with around:
            nn.backward(model(x))
        assert model.first.weight.grad is not None
        found.append(model.first.weight.grad)
        model.first.weight.grad = None
        model.clear_saved_tensors()
    assert torch.equal(*found)


def test_activations_die_as_soon_as_nobody_needs_them() -> None:
    class Watching(nn.Layer):
        """Looks which activations are alive when its derivative is asked for."""

        def __init__(self, look: Callable[[], None]) -> None:
            super().__init__()
            self.look = look

        def forward(self, x: Tensor) -> Tensor:
            return x * 2

        def input_vjp(self, g: Tensor, record: nn.Record) -> Tensor:
            self.look()
            return g * 2

    made: list[weakref.ref[Tensor]] = []

    class Noting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = super().forward(x)
            made.append(weakref.ref(y))
            return y

    alive: list[list[bool]] = []
    watching = Watching(lambda: alive.append([ref() is not None for ref in made]))
    model = nn.Sequential(Noting(2, 2), nn.ReLU(), watching, Noting(2, 2), nn.ReLU(), Noting(2, 2))
    for around, expected in ((torch.no_grad(), [True, True, True]), (release_records(), [False, False, False])):
        made.clear()
        with around:
            nn.backward(model(torch.ones(1, 2)))
        assert alive.pop() == expected
        model.clear_saved_tensors()


def test_a_second_backward_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with release_records():
        y = model(torch.ones(1, 2))
        nn.backward(y)
        with pytest.raises(MissingRecordError, match="it was released by a backward pass; run the forward pass"):
            nn.backward(y)
        other = model[1](model[0](torch.ones(1, 2)))
        nn.backward(other)
    with pytest.raises(MissingRecordError, match="released"):
        nn.backward(other)
    model.clear_saved_tensors()
    with pytest.raises(MissingRecordError, match="cleared"):
        nn.backward(y)


def test_a_loss_forgets_pairs_of_released_records_too() -> None:
    model, used, unused = nn.Linear(2, 2), nn.MSE(), nn.MSE()
    with release_records():
        y = model(torch.ones(1, 2))
        used(y, torch.zeros(1, 2))
        unused(y, torch.zeros(1, 2))
        used.backward()
    model.clear_saved_tensors()
    assert not used.xs and not unused.xs


def test_a_placeholder_has_all_but_the_entries() -> None:
    y = nn.Linear(2, 3, dtype=torch.float64)(torch.ones(4, 2, dtype=torch.float64))
    found: Any = Placeholder(y)
    assert (found.shape, found.dtype, found.device, len(found)) == (y.shape, y.dtype, y.device, 4)
    assert creator_of(found) == creator_of(y) is not None
    leaf: Any = Placeholder(torch.ones(2))
    assert creator_of(leaf) is None


def test_a_layer_that_looks_at_inputs_which_it_does_not_need_is_told_so() -> None:
    class Forgetful(nn.Layer):
        needs_inputs = False

        def forward(self, x: Tensor) -> Tensor:
            return x.square()

        def input_vjp(self, g: Tensor, record: nn.Record) -> Tensor:
            return 2 * g * record.x.abs()

    layer = Forgetful()
    with release_records(), pytest.raises(AttributeError, match="'abs' of an input was not kept: a layer with needs_"):
        nn.backward(layer(torch.ones(2)))


def test_a_record_from_outside_is_released_as_well() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    y = model(torch.ones(1, 2))
    origin = creator_of(y)
    assert origin is not None
    record = model.record_at(origin[1])
    assert record.inner is not None
    with release_records():
        nn.backward(y)
    assert record.inner is None and record.inputs == record.saved == record.watched == () and not record.parameters


def test_records_are_cleared_after_who_used_them_has_died() -> None:
    model, loss = nn.Linear(2, 2), nn.MSE()
    loss(model(torch.ones(1, 2)), torch.zeros(1, 2))
    del loss
    model.clear_saved_tensors()
    assert not model.xs
