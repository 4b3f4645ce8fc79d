from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nn_from_scratch import MSE, SGD, Adam
from nn_from_scratch.denoise.data import PairSet, batches
from nn_from_scratch.denoise.model import apply_to_images, report_model
from nn_from_scratch.denoise.scores import psnr
from nn_from_scratch.denoise.settings import TrainingProgress, TrainingSettings
from nn_from_scratch.denoise.training import WINDOW, check_device, make_optimizer, train
from nn_from_scratch.engine.module import Module
from nn_from_scratch.errors import ArgumentError, DeviceError, DivergenceError, ShapeError

SETTINGS = TrainingSettings(epochs=3, batch_size=3, lr=0.1, seed=5)


def fresh(settings: TrainingSettings = SETTINGS) -> tuple[Module, SGD | Adam]:
    model = report_model(generator=torch.Generator().manual_seed(settings.seed))
    optimizer = make_optimizer(model, settings)
    assert isinstance(optimizer, SGD | Adam)
    return model, optimizer


def weights(model: Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_the_plain_loop(tiny_pairs: PairSet) -> None:
    model, optimizer = fresh()
    done = train(model, optimizer, tiny_pairs, settings=SETTINGS)
    plain, sgd = fresh()
    criterion = MSE()
    for epoch in range(1, 4):
        total = 0.0
        for x, y in batches(tiny_pairs, batch_size=3, seed=5, epoch=epoch):
            loss = criterion(plain(x), y)
            criterion.backward()
            sgd.step()
            sgd.zero_grad()
            total += float(loss) * len(x)
        assert done.history[epoch - 1].loss == pytest.approx(total / 20, rel=1e-6)
    assert same(weights(model), weights(plain))
    quality = psnr(apply_to_images(model, tiny_pairs.validation_noisy), tiny_pairs.validation_clean)
    assert done.history[-1].psnr == quality
    assert done == TrainingProgress(history=done.history)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_same_seed_gives_the_same_bits(tiny_pairs: PairSet, optimizer: str) -> None:
    settings = TrainingSettings(epochs=2, batch_size=4, optimizer=optimizer, lr=0.01, momentum=0.0)
    results = []
    for _ in range(2):
        model, made = fresh(settings)
        assert type(made).__name__.lower() == optimizer
        train(model, made, tiny_pairs, settings=settings)
        results.append(weights(model))
    assert same(*results)


def test_another_seed_gives_another_order(tiny_pairs: PairSet) -> None:
    results = []
    for seed in (5, 6):
        model, optimizer = fresh()
        train(model, optimizer, tiny_pairs, settings=replace(SETTINGS, seed=seed))
        results.append(weights(model))
    assert not same(*results)


def test_it_learns(tiny_pairs: PairSet) -> None:
    flat = torch.full((64, 3, 8, 8), 40, dtype=torch.uint8)
    pairs = replace(tiny_pairs, train_noisy_a=flat, train_noisy_b=flat)
    model, optimizer = fresh()
    history = train(model, optimizer, pairs, settings=replace(SETTINGS, epochs=4)).history
    assert history[-1].loss < 0.01 * history[0].loss


def test_stopping_in_mid_epoch_and_going_on_changes_no_bit(tiny_pairs: PairSet) -> None:
    settings = replace(SETTINGS, epochs=2, batch_size=1)
    pairs = replace(
        tiny_pairs,
        train_noisy_a=tiny_pairs.train_noisy_a.repeat(7, 1, 1, 1),
        train_noisy_b=tiny_pairs.train_noisy_b.repeat(7, 1, 1, 1),
    )
    model, optimizer = fresh(settings)
    whole = train(model, optimizer, pairs, settings=settings)

    stopped, first = fresh(settings)
    reached = TrainingProgress()
    halts = 0
    while reached.epoch < 2:
        state = {name: tensor.clone() for name, tensor in first.state_dict().items()}
        first = make_optimizer(stopped, settings)  # type: ignore[assignment]
        first.load_state_dict(state)
        reached = train(stopped, first, pairs, settings=settings, progress=reached, stop=lambda: True)
        halts += 1
    assert halts == 2 * 3  # after 64, 128 and 140 steps of each epoch
    assert same(weights(model), weights(stopped))
    assert [r.loss for r in reached.history] == [r.loss for r in whole.history]
    assert [r.psnr for r in reached.history] == [r.psnr for r in whole.history]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_run_in_low_precision_that_was_interrupted_ends_with_the_same_bits(
    tiny_pairs: PairSet, precision: str
) -> None:
    settings = replace(SETTINGS, precision=precision)
    whole, optimizer = fresh(settings)
    done = train(whole, optimizer, tiny_pairs, settings=settings)
    parts, optimizer = fresh(settings)
    half = train(parts, optimizer, tiny_pairs, settings=replace(settings, epochs=1))
    half = TrainingProgress.from_json(half.to_json())
    assert (half.scale > 0) is (precision == "float16")
    again = train(parts, optimizer, tiny_pairs, settings=settings, progress=half)
    assert [epoch.loss for epoch in again.history] == [epoch.loss for epoch in done.history]
    assert same(weights(whole), weights(parts))


def test_the_callbacks_tell_the_truth(tiny_pairs: PairSet) -> None:
    seen: list[tuple[str, int, int]] = []
    model, optimizer = fresh()
    train(
        model,
        optimizer,
        tiny_pairs,
        settings=replace(SETTINGS, epochs=2),
        on_progress=lambda progress: seen.append(("steps", progress.epoch, progress.step)),
        on_epoch=lambda progress: seen.append(("epoch", progress.epoch, progress.step)),
    )
    assert seen == [("steps", 0, 7), ("epoch", 1, 0), ("steps", 1, 7), ("epoch", 2, 0)]


def test_without_validation_there_is_no_psnr(tiny_pairs: PairSet) -> None:
    model, optimizer = fresh()
    done = train(model, optimizer, tiny_pairs, settings=replace(SETTINGS, epochs=1), validate=False)
    assert done.history[0].psnr is None


class Poisoning(SGD):
    """Spoils a weight after a number of steps."""

    def __init__(self, model: Module, *, after: int) -> None:
        super().__init__(model, lr=0.1)
        self.left = after

    def step(self) -> None:
        super().step()
        self.left -= 1
        if self.left == 0:
            self.model.parameters()["0.weight"].fill_(torch.nan)


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize(("after", "epoch", "step"), [(4, 1, 5), (9, 2, 3)])
def test_the_first_step_with_a_loss_that_is_not_finite_is_named(
    tiny_pairs: PairSet, after: int, epoch: int, step: int, capture: bool
) -> None:
    model, _ = fresh()
    with pytest.raises(DivergenceError, match=f"the loss is nan in epoch {epoch} at step {step}; a smaller learning"):
        train(model, Poisoning(model, after=after), tiny_pairs, settings=SETTINGS, capture=capture)


def test_the_step_is_right_beyond_the_first_window(tiny_pairs: PairSet) -> None:
    model, _ = fresh()
    pairs = replace(
        tiny_pairs,
        train_noisy_a=tiny_pairs.train_noisy_a.repeat(5, 1, 1, 1),
        train_noisy_b=tiny_pairs.train_noisy_b.repeat(5, 1, 1, 1),
    )
    with pytest.raises(DivergenceError, match=f"in epoch 1 at step {WINDOW + 7};"):
        train(model, Poisoning(model, after=WINDOW + 6), pairs, settings=replace(SETTINGS, batch_size=1), capture=False)


def test_weights_spoiled_by_the_last_step_of_an_epoch_are_never_handed_out(tiny_pairs: PairSet) -> None:
    model, _ = fresh()
    epochs: list[int] = []
    with pytest.raises(DivergenceError, match=r"parameter '0.weight' is no longer finite in epoch 2 after step 7;"):
        train(
            model,
            Poisoning(model, after=14),
            tiny_pairs,
            settings=SETTINGS,
            on_epoch=lambda progress: epochs.append(progress.epoch),
            capture=False,
        )
    assert epochs == [1]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_capturing_steps_changes_no_bit(tiny_pairs: PairSet, optimizer: str) -> None:
    settings = replace(SETTINGS, optimizer=optimizer, momentum=0.9 if optimizer == "sgd" else 0.0)
    results = []
    for capture in (True, False):
        model, made = fresh(settings)
        done = train(model, made, tiny_pairs, settings=settings, capture=capture)
        results.append((weights(model), [epoch.loss for epoch in done.history]))
    assert same(results[0][0], results[1][0]) and results[0][1] == results[1][1]


def test_images_of_an_unsuitable_size_are_refused(tiny_pairs: PairSet) -> None:
    model, optimizer = fresh()
    cut = replace(
        tiny_pairs, train_noisy_a=tiny_pairs.train_noisy_a[:, :, :6], train_noisy_b=tiny_pairs.train_noisy_b[:, :, :6]
    )
    message = "the training images have 6x8 pixels, but height and width must be multiples of 4 and at least 8"
    with pytest.raises(ShapeError, match=message):
        train(model, optimizer, cut, settings=SETTINGS)


def test_progress_beyond_the_settings_is_refused(tiny_pairs: PairSet) -> None:
    model, optimizer = fresh()
    message = "progress is at 0 epochs and 7 steps of epoch 1, which is beyond 3 epochs of 7 steps"
    with pytest.raises(ArgumentError, match=message):
        train(model, optimizer, tiny_pairs, settings=SETTINGS, progress=TrainingProgress(step=7))


@pytest.mark.parametrize("name", ["gpu", "cuda:", "mps", "meta", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    message = f"device is {name!r}, but 'cpu', 'cuda' or 'cuda:NUMBER' is expected"
    with pytest.raises(DeviceError, match=re.escape(message)):
        check_device(name)


def test_a_missing_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="device is 'cuda', but CUDA is not available here; 'cpu' is"):
        check_device("cuda")


def test_a_cuda_device_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="device is 'cuda:2', but CUDA devices here have numbers below 2"):
        check_device("cuda:2")


@pytest.mark.gpu
def test_the_same_seed_gives_the_same_bits_on_a_gpu(tiny_pairs: PairSet) -> None:
    settings = TrainingSettings(epochs=3, batch_size=4, lr=0.1)
    results = []
    for _ in range(2):
        model = report_model(generator=torch.Generator().manual_seed(0)).cuda()
        done = train(model, make_optimizer(model, settings), tiny_pairs, settings=settings)
        assert done.epoch == 3
        results.append(model.state_dict())
    assert all(tensor.is_cuda and torch.equal(tensor, results[1][name]) for name, tensor in results[0].items())
