"""The training loop, from one state between two steps to a later one.

Axes: N pairs, C = 3 channels, H height, W width. What a step does depends on the settings, the pairs and the state
before it alone, so a run that was stopped and taken up again ends with the same bits as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nn_from_scratch.denoise.data import PairSet, batches, on_device
from nn_from_scratch.denoise.model import LEAST_SIZE, SIZE_STEP, apply_to_images
from nn_from_scratch.denoise.scores import psnr
from nn_from_scratch.denoise.settings import EpochResult, RunSettings, TrainingProgress, TrainingSettings
from nn_from_scratch.engine import TrainingStep, convolution_algorithm
from nn_from_scratch.engine.losses import MSE
from nn_from_scratch.engine.low_precision import LossScale, LowPrecisionStep
from nn_from_scratch.engine.module import Module
from nn_from_scratch.engine.optimizers import SGD, Adam, Optimizer
from nn_from_scratch.errors import ArgumentError, DeviceError, DivergenceError, ShapeError

if TYPE_CHECKING:
    from nn_from_scratch.denoise.distributed.replicas import Replicas


#: Steps after which the losses are read: asking for a number makes the processor wait for the device.
WINDOW = 64


def make_optimizer(model: Module, settings: TrainingSettings) -> Optimizer:
    """Make the optimizer that the settings name, without any state yet."""
    if settings.optimizer == "adam":
        return Adam(model, lr=settings.lr)
    return SGD(model, lr=settings.lr, momentum=settings.momentum)


@contextmanager
def computing_as(settings: RunSettings) -> Iterator[None]:
    """Context manager that computes with the threads and the convolution algorithm of the settings."""
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with convolution_algorithm(settings.conv):
            yield
    finally:
        torch.set_num_threads(before)


def check_device(name: str) -> torch.device:
    """Give the device of this name, if it can be used here.

    Raises:
        DeviceError: it cannot.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")  # refused below, like every other type
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device is {name!r}, but 'cpu', 'cuda' or 'cuda:NUMBER' is expected")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device is {name!r}, but CUDA is not available here; 'cpu' is")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device is {name!r}, but CUDA devices here have numbers below {torch.cuda.device_count()}")
    return device


def train(
    model: Module,
    optimizer: Optimizer,
    pairs: PairSet,
    *,
    settings: TrainingSettings,
    progress: TrainingProgress | None = None,
    validate: bool = True,
    on_progress: Callable[[TrainingProgress], None] | None = None,
    on_epoch: Callable[[TrainingProgress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    replicas: Replicas | None = None,
    capture: bool = True,
) -> TrainingProgress:
    """Train a model on noisy pairs with the mean squared error.

    Args:
        model: maps (N, 3, H, W) to the same shape; it is trained where its parameters lie, and in their dtype.
        optimizer: of this model, with its state if `progress` is given.
        settings: how long, and in which batches and order; the optimizer has its own already.
        progress: the state that model and optimizer are in; the start of a run by default.
        validate: whether the PSNR of the validation images is taken after every epoch.
        on_progress: called after every `WINDOW` steps and after the last of an epoch.
        on_epoch: called after every epoch; this is where a checkpoint is saved.
        stop: asked together with `on_progress`; if true, training ends there, perhaps in mid-epoch.
        replicas: other processes that train the same model; each takes a part of every batch, and calls this with the
            same arguments, apart from `validate` and the callbacks. `stop` must be the same everywhere.
        capture: whether one process in float32 captures a step once and replays it, which is faster and changes no
            number; see `TrainingStep` for the models that cannot be captured.

    Returns:
        The state that model and optimizer are in now.

    Raises:
        ArgumentError: the progress does not fit the settings.
        CaptureError: steps of this model cannot be captured.
        ShapeError: the height or width of the training images does not suit the model.
        DivergenceError: the loss or a weight is no longer finite; model and optimizer are then useless.
        ReplicaError: another process has ended.
    """
    state = progress or TrainingProgress()
    parameter = next(iter(model.parameters().values()))
    _expect_trainable_size(pairs.train_noisy_a)
    if replicas is not None and settings.precision != "float32":
        raise ArgumentError(f"precision is {settings.precision!r}, but several processes train in 'float32' alone")
    pairs = on_device(pairs, parameter.device)
    steps = -(-len(pairs.train_noisy_a) // settings.batch_size)
    if state.epoch > settings.epochs or state.step >= steps:
        raise ArgumentError(
            f"progress is at {state.describe()}, which is beyond {settings.epochs} epochs of {steps} steps"
        )
    step = _make_step(model, optimizer, settings, state, capture=capture and replicas is None)
    while state.epoch < settings.epochs:
        started = time.perf_counter() - state.seconds
        for reached in _windows(step, pairs, settings, state, replicas):
            state = replace(reached, seconds=time.perf_counter() - started)
            if on_progress is not None:
                on_progress(state)
            if state.step < steps and stop is not None and stop():
                _expect_finite(model, state)
                return state
        _expect_finite(model, state)
        quality = psnr(apply_to_images(model, pairs.validation_noisy), pairs.validation_clean) if validate else None
        result = EpochResult(
            epoch=state.epoch + 1,
            loss=state.loss_sum / len(pairs.train_noisy_a),
            psnr=quality,
            seconds=time.perf_counter() - started,
            samples_per_second=len(pairs.train_noisy_a) / state.seconds,
        )
        state = TrainingProgress(history=(*state.history, result), scale=state.scale, good_steps=state.good_steps)
        if on_epoch is not None:
            on_epoch(state)
        if stop is not None and stop():
            break
    return state


def _make_step(
    model: Module, optimizer: Optimizer, settings: TrainingSettings, state: TrainingProgress, *, capture: bool
) -> TrainingStep | LowPrecisionStep:
    if settings.precision == "float32":
        return TrainingStep(model, MSE(), optimizer, capture=capture)
    dtype: torch.dtype = getattr(torch, settings.precision)
    scale = LossScale(state.scale, state.good_steps) if state.scale else None
    return LowPrecisionStep(model, MSE(), optimizer, dtype=dtype, scale=scale)


def _windows(
    step: TrainingStep | LowPrecisionStep,
    pairs: PairSet,
    settings: TrainingSettings,
    state: TrainingProgress,
    replicas: Replicas | None,
) -> Iterator[TrainingProgress]:
    """Go through the rest of an epoch, and give the state after every `WINDOW` steps and after the last one."""
    parameter = next(iter(step.model.parameters().values()))
    drawn = batches(
        pairs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        epoch=state.epoch + 1,
        device=parameter.device,
        dtype=parameter.dtype,
        part=(0, 1) if replicas is None else (replicas.rank, replicas.size),
    )
    rest = islice(drawn, state.step, None)
    if replicas is None:
        losses: Iterator[Tensor] = (step(x, y) * len(x) for x, y in rest)
    else:
        losses = replicas.steps(step.model, step.optimizer, step.criterion, rest)
    while window := list(islice(losses, WINDOW)):
        loss_sum = state.loss_sum + _finite_sum(window, state)
        state = replace(state, step=state.step + len(window), loss_sum=loss_sum)
        if isinstance(step, LowPrecisionStep) and step.scale is not None:
            state = replace(state, scale=step.scale.scale, good_steps=step.scale.good)
        yield state


def _expect_finite(model: Module, state: TrainingProgress) -> None:
    """Refuse to go on with, or to save, weights that are not finite."""
    for name, parameter in model.parameters().items():
        if not bool(parameter.isfinite().all()):
            raise DivergenceError(
                f"parameter {name!r} is no longer finite in epoch {state.epoch + 1} after step {state.step}; "
                "a smaller learning rate may help"
            )


def _finite_sum(losses: list[Tensor], before: TrainingProgress) -> float:
    values = torch.stack(losses).double().cpu()
    finite = values.isfinite()
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        raise DivergenceError(
            f"the loss is {float(values[first])} in epoch {before.epoch + 1} at step {before.step + first + 1}; "
            "a smaller learning rate may help"
        )
    return float(values.sum())


def _expect_trainable_size(images: Tensor) -> None:
    H, W = images.shape[2:]
    if H % SIZE_STEP or W % SIZE_STEP or min(H, W) < LEAST_SIZE:
        raise ShapeError(
            f"the training images have {H}x{W} pixels, but height and width must be multiples of {SIZE_STEP} "
            f"and at least {LEAST_SIZE}"
        )
