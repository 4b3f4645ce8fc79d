"""The report's model against torch.nn: gradients layer by layer, and 200 steps of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.convolutions import ALGORITHMS
from nn_from_scratch.models import report_model
from nn_from_scratch.optimizers import Optimizer


@pytest.fixture(params=sorted(ALGORITHMS))
def algorithm(request: pytest.FixtureRequest) -> Iterator[None]:
    """All convolutions of the test are computed in this way."""
    with nn.convolution_algorithm(request.param):
        yield


def torch_model() -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 4, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 4, stride=2),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(32, 16, 4, stride=2),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1),
        torch.nn.Sigmoid(),
    ).double()


def both() -> tuple[nn.Sequential, torch.nn.Sequential]:
    theirs = torch_model()
    ours = report_model(dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def images(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("algorithm")
def test_gradients_of_every_layer_agree_to_rounding() -> None:
    ours, theirs = both()
    x, target = images(4, 0), images(4, 1)

    activations: list[Tensor] = []
    h = x
    for layer in theirs:
        h = layer(h)
        h.retain_grad()
        activations.append(h)
    torch.nn.functional.mse_loss(h, target).backward()

    loss = nn.MSE()
    loss(ours(x), target)
    loss.backward()
    for name, reference in theirs.named_parameters():
        mine = ours.parameters()[name].grad
        assert mine is not None and reference.grad is not None
        assert float((mine - reference.grad).abs().max()) <= 1e-14 * float(reference.grad.abs().max()), name

    # The gradients that are handed on from layer to layer, from each layer on its own.
    for place in reversed(range(1, len(ours))):
        module, cotangent, expected = ours[place], activations[place].grad, activations[place - 1].grad
        assert cotangent is not None and expected is not None
        module.clear_saved_tensors()
        module(activations[place - 1].detach())
        found = module.backward(cotangent)
        assert isinstance(found, Tensor)
        assert float((found - expected).abs().max()) <= 1e-14 * float(expected.abs().max()), place


OPTIMIZERS: list[tuple[str, Callable[[nn.Module], Optimizer], Callable[[torch.nn.Module], torch.optim.Optimizer]]] = [
    ("sgd", lambda m: nn.SGD(m, lr=0.5), lambda m: torch.optim.SGD(m.parameters(), lr=0.5)),
    (
        "momentum",
        lambda m: nn.SGD(m, lr=0.5, momentum=0.9),
        lambda m: torch.optim.SGD(m.parameters(), lr=0.5, momentum=0.9),
    ),
    ("adam", lambda m: nn.Adam(m, lr=1e-2), lambda m: torch.optim.Adam(m.parameters(), lr=1e-2)),
]


@pytest.mark.usefixtures("algorithm")
@pytest.mark.parametrize(("ours_of", "theirs_of"), [pytest.param(a, b, id=name) for name, a, b in OPTIMIZERS])
def test_the_loss_curve_of_200_steps_agrees(
    ours_of: Callable[[nn.Module], Optimizer], theirs_of: Callable[[torch.nn.Module], torch.optim.Optimizer]
) -> None:
    ours, theirs = both()
    mine, reference = ours_of(ours), theirs_of(theirs)
    loss = nn.MSE()
    clean = images(64, 2)
    generator = torch.Generator().manual_seed(3)
    for step in range(200):
        batch = clean[torch.randint(64, (4,), generator=generator)]
        x = (batch + 0.1 * torch.randn(batch.shape, dtype=torch.float64, generator=generator)).clamp(0, 1)
        mine.zero_grad()
        value = loss(ours(x), batch)
        loss.backward()
        mine.step()
        reference.zero_grad()
        expected = torch.nn.functional.mse_loss(theirs(x), batch)
        expected.backward()
        reference.step()
        assert abs(float(value) - float(expected.detach())) <= 1e-10 * float(expected.detach()), step


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: nn.Conv2d(8, 64, (3, 5), groups=2), lambda: torch.nn.Conv2d(8, 64, (3, 5), groups=2)),
        (lambda: nn.TransposeConv2d(8, 64, 4, groups=2), lambda: torch.nn.ConvTranspose2d(8, 64, 4, groups=2)),
        (lambda: nn.Linear(40, 300), lambda: torch.nn.Linear(40, 300)),
    ],
)
def test_initial_values_are_distributed_as_torchs(
    ours: Callable[[], nn.Module], theirs: Callable[[], torch.nn.Module]
) -> None:
    """Two-sample Kolmogorov-Smirnov on the pooled entries, at a level of 1e-6."""
    for name, mine in ours().parameters().items():
        draws = [
            torch.cat([make() for _ in range(20)]).sort().values
            for make in (
                lambda name=name: ours().parameters()[name].flatten(),
                lambda name=name: dict(theirs().named_parameters())[name].detach().flatten(),
            )
        ]
        n = len(draws[0])
        assert n == 20 * mine.numel() == len(draws[1])
        grid = torch.cat(draws)
        distance = (torch.searchsorted(draws[0], grid) - torch.searchsorted(draws[1], grid)).abs().max() / n
        assert float(distance) < (-0.5 * torch.tensor(1e-6 / 2).log() * 2 / n).sqrt(), name


@pytest.mark.gpu
@pytest.mark.usefixtures("algorithm")
def test_training_on_a_gpu_agrees_with_the_cpu() -> None:
    ours, _ = both()
    losses: dict[str, list[float]] = {}
    for device in ("cpu", "cuda"):
        model, loss = report_model(dtype=torch.float64), nn.MSE()
        model.load_state_dict(ours.state_dict())
        model.to(device)
        optimizer = nn.SGD(model, lr=0.5, momentum=0.9)
        for step in range(20):
            optimizer.zero_grad()
            x = images(4, step).to(device)
            losses.setdefault(device, []).append(float(loss(model(x), x)))
            loss.backward()
            optimizer.step()
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-10)
