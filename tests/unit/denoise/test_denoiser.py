from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nn_from_scratch.denoise.data import Gaussian
from nn_from_scratch.denoise.denoiser import Denoiser
from nn_from_scratch.denoise.model import apply_to_images
from nn_from_scratch.denoise.scores import psnr
from nn_from_scratch.errors import ArgumentError, CheckpointError, DeviceError, DtypeError, ShapeError

Images = Callable[..., Tensor]


def test_fit_takes_tensors_and_arrays_and_gives_the_same_bits(images: Images) -> None:
    a, b = images(12, 3, 8, 8), images(12, 3, 8, 8, seed=1)
    denoisers = []
    for inputs, targets in ((a, b), (a.numpy(), b.numpy())):
        denoiser = Denoiser(seed=1)
        history = denoiser.fit(inputs, targets, epochs=2, batch_size=4, lr=0.1)
        assert [result.psnr for result in history] == [None, None]
        denoisers.append(denoiser.model.state_dict())
    assert all(torch.equal(denoisers[0][name], denoisers[1][name]) for name in denoisers[0])


def test_fit_reports_the_validation_psnr(images: Images) -> None:
    a = images(8, 3, 8, 8)
    denoiser = Denoiser()
    seen: list[float | None] = []
    history = denoiser.fit(
        a, a, validation=(a, a), epochs=1, on_epoch=lambda progress: seen.append(progress.history[-1].psnr)
    )
    assert [history[0].psnr] == seen == [psnr(apply_to_images(denoiser.model, a), a)]


def test_fit_chooses_the_learning_rate_of_the_optimizer(images: Images) -> None:
    a = images(4, 3, 8, 8)
    assert len(Denoiser().fit(a, a, epochs=1, optimizer="adam")) == 1


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epochs": 0}, ArgumentError, "epochs is 0, but an integer of at least 1 is expected"),
        ({"optimizer": "lion"}, ArgumentError, "optimizer is 'lion', but 'sgd' or 'adam' is expected"),
        ({"rate": 1}, TypeError, "fit() got unexpected settings rate"),
    ],
)
def test_fit_refuses_nonsense(images: Images, settings: dict[str, Any], error: type[Exception], message: str) -> None:
    a = images(4, 3, 8, 8)
    with pytest.raises(error, match=re.escape(message)):
        Denoiser().fit(a, a, **settings)


def test_fit_refuses_images_that_do_not_fit_together(images: Images) -> None:
    with pytest.raises(ShapeError, match=r"\(4, 3, 8, 8\).*\(4, 3, 8, 12\)"):
        Denoiser().fit(images(4, 3, 8, 8), images(4, 3, 8, 12))
    with pytest.raises(DtypeError, match=r"targets has dtype torch.float32, but uint8 is expected"):
        Denoiser().fit(images(4, 3, 8, 8), images(4, 3, 8, 8).float())


def test_predict_gives_back_the_kind_and_shape_that_it_got(images: Images) -> None:
    denoiser = Denoiser()
    batch = images(2, 3, 13, 9)
    denoised = denoiser.predict(batch)
    assert isinstance(denoised, Tensor)
    assert denoised.shape == batch.shape
    array = denoiser.predict(batch.numpy())
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.uint8
    assert np.array_equal(array, denoised.numpy())
    picture = denoiser.predict(batch[1].permute(1, 2, 0).numpy())
    assert np.array_equal(picture, denoised[1].permute(1, 2, 0).numpy())
    assert torch.equal(denoiser.predict(batch[1].permute(1, 2, 0)), denoised[1].permute(1, 2, 0))


def test_predict_leaves_its_input_alone(images: Images) -> None:
    batch = images(1, 3, 8, 8)
    before = batch.clone()
    Denoiser().predict(batch)
    assert torch.equal(batch, before)


def test_predict_takes_read_only_and_reversed_arrays(images: Images) -> None:
    array = images(1, 3, 8, 8).numpy()
    expected = Denoiser().predict(array[:, :, ::-1].copy())
    array.setflags(write=False)
    assert np.array_equal(Denoiser().predict(array[:, :, ::-1]), expected)


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8), (2, 1, 8, 8), (2, 8, 8, 3), (1, 3, 0, 8)])
def test_predict_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    message = f"images has shape {shape}, but (N, 3, H, W), or (H, W, 3) for one picture, is expected"
    with pytest.raises(ShapeError, match=re.escape(message)):
        Denoiser().predict(torch.zeros(shape, dtype=torch.uint8))


def test_predict_of_no_images_is_no_images() -> None:
    assert Denoiser().predict(torch.zeros(0, 3, 8, 8, dtype=torch.uint8)).shape == (0, 3, 8, 8)


def test_predict_refuses_other_types() -> None:
    with pytest.raises(DtypeError, match="images has dtype float64, but uint8 is expected, values 0 to 255"):
        Denoiser().predict(np.zeros((8, 8, 3)))  # type: ignore[type-var]
    with pytest.raises(DtypeError, match=r"images is a list, but a torch.Tensor or a numpy.ndarray is expected"):
        Denoiser().predict([[0]])  # type: ignore[type-var]


def test_save_and_load(images: Images, tmp_path: Path) -> None:
    batch = images(1, 3, 16, 16)
    denoiser = Denoiser(seed=7)
    denoiser.information["note"] = "untrained"
    denoiser.save(tmp_path / "model.safetensors")
    loaded = Denoiser.load(tmp_path / "model.safetensors")
    assert torch.equal(loaded.predict(batch), denoiser.predict(batch))
    assert loaded.information == {"note": "untrained"}


def test_load_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a folder without checkpoint.safetensors: not a training run"):
        Denoiser.load(tmp_path)


def test_save_refuses_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written: No such file or directory"):
        Denoiser().save(tmp_path / "missing" / "model.safetensors")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="device is 'tpu'"):
        Denoiser(device="tpu")


def test_the_pretrained_model_denoises_and_says_where_it_comes_from() -> None:
    from skimage import data

    clean = torch.from_numpy(data.astronaut()[:128, 160:288].copy()).permute(2, 0, 1)[None]
    noisy = Gaussian(25).corrupt(clean, torch.Generator().manual_seed(0))
    denoiser = Denoiser.pretrained()
    assert psnr(denoiser.predict(noisy), clean) > psnr(noisy, clean) + 5
    assert {"command", "data", "noise", "psnr"} <= denoiser.information.keys()


def test_no_grid_of_the_strides_is_left_in_a_bright_area() -> None:
    bright = torch.full((1, 3, 128, 128), 250.0)
    noisy = (bright + 25 * torch.randn(bright.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 255).byte()
    denoiser = Denoiser.pretrained()

    def grid(y: Tensor) -> float:
        inner = y[:, :, 16:-16, 16:-16].float()
        means = torch.stack([inner[:, :, i::4, j::4].mean((2, 3)) for i in range(4) for j in range(4)])  # (16, 1, 3)
        return float((means.amax(0) - means.amin(0)).max())

    assert grid(apply_to_images(denoiser.model, noisy)) > 6
    assert grid(denoiser.predict(noisy)) < 3


@pytest.mark.gpu
def test_a_denoiser_on_a_gpu_gives_what_it_gives_on_the_processor() -> None:
    images = torch.randint(0, 256, (2, 3, 50, 60), dtype=torch.uint8)
    expected = Denoiser.pretrained().predict(images).int()
    found = Denoiser.pretrained(device="cuda").predict(images)
    assert found.device.type == "cpu"
    assert int((found.int() - expected).abs().max()) <= 1
