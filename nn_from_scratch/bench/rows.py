"""The rows of Table I: variants of a training step of the report's model, all from the same initial weights.

A row is a function of a batch and an optimizer's name that gives the step: called with a batch and its target, it
trains once and gives the loss before. A further row is one line in `ROWS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

import nn_from_scratch as nn
from nn_from_scratch.engine.module import Module

#: Samples (N, 3, H, W) and their targets.
Batch = tuple[Tensor, Tensor]
#: Trains on a batch (N, 3, H, W) and a target of its shape; gives the loss, shape ().
Step = Callable[[Tensor, Tensor], Tensor]

#: The optimizers of the report's Table I: the class, of one name in both packages, and its options.
OPTIMIZERS: dict[str, tuple[str, dict[str, float]]] = {
    "SGD": ("SGD", {"lr": 0.5}),
    "SGD with momentum": ("SGD", {"lr": 0.5, "momentum": 0.9}),
    "Adam": ("Adam", {"lr": 1e-3}),
}
#: The row that the others are compared with.
EAGER = "PyTorch eager"
COMPILED = "torch.compile"
_SEED = 0


@dataclass(frozen=True)
class Row:
    """One variant of training.

    Attributes:
        make: gives the step, for batches like the one given, under the optimizer of this name.
        devices: types of devices that it is for.
        channels_last: types of devices on which it is handed batches that lie in memory with the channels last; ours
            are on a CPU, as `data.batches` hands them to training.
        dispatches: whether torch dispatches its operators one by one, so that they can be counted.
    """

    name: str
    make: Callable[[Tensor, str], Step]
    devices: tuple[str, ...] = ("cpu", "cuda")
    channels_last: tuple[str, ...] = ()
    dispatches: bool = True


def split_into_batches(x: Tensor, y: Tensor, size: int, *, channels_last: bool) -> list[Batch]:
    """The samples of an epoch in their order, copied once into this layout; the last batch may be smaller."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, y = x.contiguous(memory_format=layout), y.contiguous(memory_format=layout)
    return list(zip(torch.split(x, size), torch.split(y, size), strict=True))


def our_model(channels: int = 16, *, device: torch.device | str = "cpu") -> Module:
    """The report's model, whose first layer has this many channels, newly initialized under a fixed seed."""
    generator, c = torch.Generator().manual_seed(_SEED), channels
    options: dict[str, Any] = {"stride": 2, "generator": generator}
    return nn.Sequential(
        nn.Conv2d(3, c, 4, padding=1, **options),
        nn.ReLU(),
        nn.Conv2d(c, 2 * c, 4, **options),
        nn.ReLU(),
        nn.TransposeConv2d(2 * c, c, 4, **options),
        nn.ReLU(),
        nn.TransposeConv2d(c, 3, 4, padding=1, **options),
        nn.Sigmoid(),
    ).to(device=device)


def torch_model(channels: int = 16, *, device: torch.device | str = "cpu") -> torch.nn.Sequential:
    """The same network of torch's modules, with the same initial weights."""
    c = channels
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, c, 4, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(c, 2 * c, 4, stride=2),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(2 * c, c, 4, stride=2),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(c, 3, 4, stride=2, padding=1),
        torch.nn.Sigmoid(),
    ).to(device)
    model.load_state_dict(our_model(channels, device=device).state_dict())
    return model


@dataclass(frozen=True)
class OurStep:
    """A training step with the convolutions by one algorithm."""

    train: nn.TrainingStep
    algorithm: str

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Train on a batch; the loss before."""
        if self.algorithm == "auto":  # as for who chose nothing
            return self.train(x, y)
        with nn.convolution_algorithm(self.algorithm):
            return self.train(x, y)


def our_step(
    x: Tensor, optimizer_name: str, *, algorithm: str = "auto", channels: int = 16, capture: bool = True
) -> OurStep:
    """A step of this package, as training makes it, with the convolutions by this algorithm."""
    name, options = OPTIMIZERS[optimizer_name]
    model = our_model(channels, device=x.device)
    train = nn.TrainingStep(model, nn.MSE(), getattr(nn, name)(model, **options), capture=capture)
    return OurStep(train, algorithm)


def torch_step(x: Tensor, optimizer_name: str, *, compiled: bool = False, channels: int = 16) -> Step:
    """A step of PyTorch with its fused optimizer, eager or with model and loss compiled.

    Where the batches' channels lie last, so do the weights': PyTorch's own advice for them.
    """
    model = torch_model(channels, device=x.device)
    if x.is_contiguous(memory_format=torch.channels_last):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
    name, options = OPTIMIZERS[optimizer_name]
    optimizer = getattr(torch.optim, name)(model.parameters(), fused=True, **options)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return torch.nn.functional.mse_loss(model(x), y)

    criterion: Callable[[Tensor, Tensor], Tensor] = loss_of
    if compiled:
        # Shapes are static: the last, smaller batch of an epoch is compiled by itself, while warming up.
        # What was compiled for other rows is dropped, because beyond a number of variants torch runs eagerly, unasked.
        torch.compiler.reset()
        mode = "reduce-overhead" if x.is_cuda else "default"
        criterion = torch.compile(loss_of, mode=mode, dynamic=False)

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = criterion(x, y)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


_AS_TRAINING = ("cpu",)
ROWS: tuple[Row, ...] = (
    Row("unfold", partial(our_step, algorithm="unfold"), channels_last=_AS_TRAINING),
    Row("native, uncaptured", partial(our_step, algorithm="native", capture=False), channels_last=_AS_TRAINING),
    Row("auto", our_step, channels_last=_AS_TRAINING),  # which is native wherever the vendor has kernels
    Row(EAGER, torch_step),
    Row(f"{EAGER}, channels last", torch_step, channels_last=("cpu", "cuda")),
    # On a CPU compiled code is faster so, by a quarter; the other layout would flatter ours.
    Row(COMPILED, partial(torch_step, compiled=True), channels_last=("cpu",), dispatches=False),
)
