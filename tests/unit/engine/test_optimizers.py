"""Optimizers: options, state, misuse. Their trajectories are compared with torch's in tests/parity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import nn_from_scratch as nn
from nn_from_scratch.engine.optimizers import Optimizer
from nn_from_scratch.errors import ArgumentError, StateDictError

MAKERS: list[Callable[[nn.Module], Optimizer]] = [
    lambda model: nn.SGD(model, lr=0.1),
    lambda model: nn.SGD(model, lr=0.1, momentum=0.9),
    lambda model: nn.SGD(model, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    lambda model: nn.Adam(model, lr=0.1),
    lambda model: nn.AdamW(model, lr=0.1),
    lambda model: nn.RMSprop(model, lr=0.1),
    lambda model: nn.RMSprop(model, lr=0.1, momentum=0.5, centered=True),
]


def steps(model: nn.Module, optimizer: Optimizer, count: int) -> None:
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        optimizer.zero_grad()
        nn.backward(model(torch.randn(4, 3, generator=generator)), torch.randn(4, 2, generator=generator))
        optimizer.step()


@pytest.mark.parametrize("make", MAKERS)
def test_a_restored_optimizer_goes_on_bit_for_bit(make: Callable[[nn.Module], Optimizer]) -> None:
    model = nn.Linear(3, 2)
    optimizer = make(model)
    steps(model, optimizer, 3)
    other = nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    restored = make(other)
    restored.load_state_dict({key: tensor.clone() for key, tensor in optimizer.state_dict().items()})
    steps(model, optimizer, 3)
    steps(other, restored, 3)
    assert torch.equal(model.weight, other.weight)


def test_a_state_that_is_written_to_is_the_one_of_the_next_step() -> None:
    model = nn.Linear(3, 2)
    optimizer = nn.SGD(model, lr=1.0, momentum=0.5)
    for _ in range(2):
        for parameter in model.parameters().values():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        before = model.weight.clone()
        optimizer.state_dict()["momentum.weight"].fill_(2.0)
    optimizer.step()
    assert torch.equal(model.weight, before - 1)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    used, unused = nn.Linear(3, 2), nn.Linear(3, 2)
    model = nn.Sequential(used, unused)
    before = unused.weight.clone()
    nn.backward(used(torch.randn(4, 3)))
    nn.SGD(model, lr=0.1).step()
    assert torch.equal(unused.weight, before) and used.weight.grad is not None


@pytest.mark.parametrize(
    ("name", "options"),
    [("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}), ("Adam", {"lr": 0.1}), ("RMSprop", {"lr": 0.1})],
)
def test_a_parameter_that_joins_later_begins_at_its_own_first_step(name: str, options: dict[str, float]) -> None:
    early, late = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs = [p.clone().requires_grad_() for p in nn.Sequential(early, late).parameters().values()]
    ours = getattr(nn, name)(nn.Sequential(early, late), **options)
    reference = getattr(torch.optim, name)(theirs, **options)
    x, g = torch.randn(4, 3), torch.randn(4, 2)
    for used in ([early], [early, late], [early, late], [late]):
        ours.zero_grad()
        reference.zero_grad()
        for layer in used:
            nn.backward(layer(x), g)
            w, b = theirs[:2] if layer is early else theirs[2:]
            torch.nn.functional.linear(x, w, b).backward(g)
        ours.step()
        reference.step()
    for layer, w in ((early, theirs[0]), (late, theirs[2])):
        torch.testing.assert_close(layer.weight, w.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", MAKERS)
def test_a_step_does_not_modify_the_gradient(make: Callable[[nn.Module], Optimizer]) -> None:
    model = nn.Linear(3, 2)
    optimizer = make(model)
    nn.backward(model(torch.randn(4, 3)))
    assert model.weight.grad is not None
    before = model.weight.grad.clone()
    optimizer.step()
    optimizer.step()
    assert torch.equal(model.weight.grad, before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: nn.SGD(m, lr=-1), "lr is -1, but a finite number of at least 0 is expected"),
        (lambda m: nn.SGD(m, lr=float("nan")), "lr is nan, but a finite number"),
        (lambda m: nn.SGD(m, lr=float("inf")), "lr is inf, but a finite number"),
        (lambda m: nn.SGD(m, lr=0.1, momentum=1), "momentum is 1, but a finite number of at least 0 and below 1"),
        (lambda m: nn.Adam(m, betas=(0.9, 1.5)), r"betas\[1\] is 1.5, but a finite number"),
        (lambda m: nn.Adam(m, eps=-1e-8), "eps is -1e-08, but a finite number"),
        (lambda m: nn.AdamW(m, weight_decay=-1), "weight_decay is -1, but a finite number"),
        (lambda m: nn.RMSprop(m, alpha=1), "alpha is 1, but a finite number of at least 0 and below 1"),
        (lambda m: nn.SGD(m, lr=0.1, nesterov=True), "nesterov is True with momentum = 0.0 and dampening = 0.0"),
        (
            lambda m: nn.SGD(m, lr=0.1, momentum=0.9, dampening=0.1, nesterov=True),
            "but it needs a momentum and no dampening",
        ),
        (
            lambda m: nn.SGD(list(m.parameters()), lr=0.1),  # type: ignore[arg-type]  # on purpose
            "model is a list, but an optimizer takes the Module itself",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Callable[[nn.Module], Optimizer], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make(nn.Linear(3, 2))


def test_a_state_that_does_not_fit_is_refused() -> None:
    model = nn.Linear(3, 2)
    optimizer = nn.SGD(model, lr=0.1, momentum=0.9)
    steps(model, optimizer, 1)
    state = optimizer.state_dict()
    with pytest.raises(StateDictError, match=r"state\['mean.weight'\] belongs to no parameter of this model under SGD"):
        optimizer.load_state_dict({**state, "mean.weight": torch.zeros(2, 3)})
    with pytest.raises(StateDictError, match=r"state\['momentum.weight'\] has shape \(1,\), but \(2, 3\) is expected"):
        optimizer.load_state_dict({**state, "momentum.weight": torch.zeros(1)})
    with pytest.raises(StateDictError, match=r"state\['momentum.bias'\] is missing"):
        optimizer.load_state_dict({key: tensor for key, tensor in state.items() if key != "momentum.bias"})


def test_options_are_shown() -> None:
    model = nn.Linear(3, 2)
    assert repr(nn.SGD(model, lr=0.1)) == "SGD(lr=0.1, momentum=0.0)"
    assert repr(nn.SGD(model, lr=0.1, momentum=0.9, nesterov=True)) == "SGD(lr=0.1, momentum=0.9, nesterov=True)"
    assert repr(nn.AdamW(model)) == "AdamW(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)"
    assert repr(nn.RMSprop(model, centered=True)) == "RMSprop(lr=0.01, alpha=0.99, eps=1e-08, centered=True)"


def test_without_weight_decay_the_gradients_stay_as_they_are() -> None:
    optimizer, gradients = nn.SGD(nn.Linear(2, 1), lr=0.1), [torch.ones(2)]
    infinite = [torch.full((2,), torch.inf)]
    assert optimizer.decayed(infinite, gradients) is gradients
