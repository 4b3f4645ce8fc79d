"""The report's model trained beside torch's: 200 steps of the loss curve."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.denoise.model import report_model
from nn_from_scratch.engine.convolutions import ALGORITHMS
from nn_from_scratch.engine.optimizers import Optimizer


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
