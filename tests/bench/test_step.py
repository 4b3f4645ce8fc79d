"""A training step of the report's model: ours with each algorithm, and torch's.

Run once by default; `tox -e bench -- --benchmark-enable` measures. As a script it prints ratios to torch, from
interleaved pairs: `python tests/bench/test_step.py`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from statistics import quantiles
from typing import Any

import pytest
import torch

import nn_from_scratch as nn
from nn_from_scratch.models import report_model

pytestmark = pytest.mark.bench

Step = Callable[[], torch.Tensor]


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
    )


#: The optimizers of the report's Table I: the class, of the same name in both packages, and its options.
OPTIMIZERS: dict[str, tuple[str, dict[str, float]]] = {
    "sgd": ("SGD", {"lr": 0.5}),
    "momentum": ("SGD", {"lr": 0.5, "momentum": 0.9}),
    "adam": ("Adam", {"lr": 1e-3}),
}


def step_of_ours(x: torch.Tensor, *, algorithm: str = "auto", optimizer_name: str = "momentum") -> Step:
    """A step that gives the loss before it; its initial values are drawn under a fixed seed."""
    model, loss = report_model(generator=torch.Generator().manual_seed(0)), nn.MSE()
    name, options = OPTIMIZERS[optimizer_name]
    optimizer = getattr(nn, name)(model, **options)

    def step() -> torch.Tensor:
        with nn.convolution_algorithm(algorithm):
            optimizer.zero_grad()
            value = loss(model(x), x)
            loss.backward()
            optimizer.step()
        return value

    return step


def step_of_torch(x: torch.Tensor, *, optimizer_name: str = "momentum", compiled: bool = False) -> Step:
    model = torch_model()
    model.load_state_dict(report_model(generator=torch.Generator().manual_seed(0)).state_dict())
    name, options = OPTIMIZERS[optimizer_name]
    optimizer = getattr(torch.optim, name)(model.parameters(), **options)

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.mse_loss(model(x), x)

    criterion = torch.compile(loss_of) if compiled else loss_of

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        value = criterion(x)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


ROWS: dict[str, Callable[..., Step]] = {
    "im2col": partial(step_of_ours, algorithm="im2col"),
    "unfold": partial(step_of_ours, algorithm="unfold"),
    "native": partial(step_of_ours, algorithm="native"),
    "torch": step_of_torch,
}


def images(batch: int) -> torch.Tensor:
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch", [16, 128])
@pytest.mark.parametrize("row", ROWS)
def test_training_step(benchmark: Any, row: str, batch: int) -> None:
    benchmark.group = f"training step, batch {batch}"
    benchmark(ROWS[row](images(batch)))


@pytest.mark.parametrize("batch", [16, 128])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("row", [row for row in ROWS if row != "torch"])
def test_every_row_computes_the_same_losses(row: str, optimizer: str, batch: int) -> None:
    ours, reference = (ROWS[name](images(batch), optimizer_name=optimizer) for name in (row, "torch"))
    for _ in range(5):
        torch.testing.assert_close(ours(), reference(), rtol=1e-5, atol=0.0)


def ratios(
    row: str, *, batch: int, pairs: int, clock: Callable[[], float], optimizer: str = "momentum", compiled: bool = False
) -> list[float]:
    """Duration of a step of this row by that of torch, for each of some pairs in random order."""
    x = images(batch)
    reference = step_of_torch(x, optimizer_name=optimizer, compiled=compiled)
    steps = [ROWS[row](x, optimizer_name=optimizer), reference]
    order = random.Random(0)
    found: list[float] = []
    for _ in range(pairs + 5):
        seconds = [0.0, 0.0]
        for place in order.sample((0, 1), 2):
            start = clock()
            steps[place]()
            seconds[place] = clock() - start
        found.append(seconds[0] / seconds[1])
    return found[5:]  # the first pairs warm up


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compiled", action="store_true", help="compare with torch.compile instead of torch eager")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # With one thread the time of the processor is that of the step, whatever else the machine does.
    timer = time.process_time if arguments.threads == 1 else time.perf_counter
    other = "torch.compile" if arguments.compiled else "torch eager"
    for size, chosen, name in product((16, 128), OPTIMIZERS, ("im2col", "unfold", "native")):
        found = ratios(
            name, batch=size, pairs=arguments.pairs, clock=timer, optimizer=chosen, compiled=arguments.compiled
        )
        low, middle, high = quantiles(found, n=4)
        sys.stdout.write(
            f"batch {size:4d} {chosen:8s} {name}: {middle:.2f} of {other} (quartiles {low:.2f}, {high:.2f})\n"
        )
