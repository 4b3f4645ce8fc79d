"""What a training gets to see, and what not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nn_from_scratch.denoise.data import PairSet, load_pairs
from nn_from_scratch.errors import ArgumentError, DataError, DtypeError, ShapeError

ONE = torch.zeros((1, 3, 4, 4), dtype=torch.uint8)


def load(*, noise: str = "gaussian:sigma=25", train_size: int = 60, seed: int = 0) -> PairSet:
    return load_pairs(noise=noise, train_size=train_size, validation_size=30, seed=seed)


def pair_set(
    a: Tensor = ONE, b: Tensor = ONE, validation_noisy: Tensor = ONE, validation_clean: Tensor = ONE
) -> PairSet:
    return PairSet(a, b, validation_noisy, validation_clean, source="a test", noise="none")


@pytest.fixture
def mid_gray(tmp_path: Path) -> Path:
    """Pictures in which every crop is known: all values are 128, but for one value that keeps the files apart."""
    for number in range(2):
        values = np.full((400, 400, 3), 128, dtype=np.uint8)
        values[0, 0, 0] = 127 - number
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    return tmp_path


def test_the_built_in_photographs_need_no_argument_but_sizes() -> None:
    pairs = load_pairs(train_size=60, validation_size=30)
    assert pairs.train_noisy_a.shape == pairs.train_noisy_b.shape == (60, 3, 32, 32)
    assert pairs.validation_noisy.shape == pairs.validation_clean.shape == (30, 3, 32, 32)
    assert pairs.noise == "gaussian:sigma=25"
    assert pairs.source == "photographs of scikit-image, held out: astronaut, chelsea, rocket"


def test_the_noisy_photographs_have_about_20_5_db() -> None:
    pairs = load_pairs(train_size=1, validation_size=300)
    error = (pairs.validation_noisy.float() - pairs.validation_clean.float()) / 255
    assert float(-10 * error.pow(2).mean((1, 2, 3)).log10().mean()) == pytest.approx(20.5, abs=0.2)


def test_the_halves_of_a_pair_are_independent_corruptions_of_one_picture(mid_gray: Path) -> None:
    pairs = load_pairs(mid_gray, noise="gaussian:sigma=10", train_size=200, validation_size=1)
    a, b = pairs.train_noisy_a.double() - 128, pairs.train_noisy_b.double() - 128
    assert float((a - b).var()) == pytest.approx(2 * 10**2, rel=0.02)
    assert abs(float((a * b).mean())) < 1


def test_no_clean_training_crop_can_be_reached(mid_gray: Path) -> None:
    pairs = load_pairs(mid_gray, noise="gaussian:sigma=10", train_size=50, validation_size=1)
    clean = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    held = {field.name: getattr(pairs, field.name) for field in dataclasses.fields(pairs)}
    tensors = {name for name, value in held.items() if isinstance(value, Tensor)}
    assert tensors == {"train_noisy_a", "train_noisy_b", "validation_noisy", "validation_clean"}
    assert all(isinstance(held[name], (str, tuple)) for name in held.keys() - tensors)
    for name in ("train_noisy_a", "train_noisy_b"):
        assert not held[name].eq(clean).flatten(1).all(1).any()
        assert held[name].untyped_storage().nbytes() == held[name].numel()


def test_no_validation_crop_is_cut_from_a_training_picture(tmp_path: Path) -> None:
    for number, value in enumerate((40, 60, 80, 100)):
        Image.new("RGB", (32, 32), (value,) * 3).save(tmp_path / f"{number}.png")
    pairs = load_pairs(tmp_path, noise="gaussian:sigma=1", train_size=30, validation_size=10)
    held_out = set(pairs.validation_clean.unique().tolist())
    seen = {round(mean / 20) * 20 for mean in pairs.train_noisy_a.float().mean((1, 2, 3)).tolist()}
    assert len(held_out) == 1 and len(seen) == 3 and not held_out & seen


def test_a_prefix_of_the_training_pairs_has_crops_of_every_picture(tmp_path: Path) -> None:
    for number, value in enumerate((40, 60, 80, 100)):
        Image.new("RGB", (32, 32), (value,) * 3).save(tmp_path / f"{number}.png")
    pairs = load_pairs(tmp_path, noise="gaussian:sigma=1", train_size=300, validation_size=1)
    seen = {round(mean / 20) * 20 for mean in pairs.train_noisy_a[:30].float().mean((1, 2, 3)).tolist()}
    assert len(seen) == 3


def test_the_seed_decides_the_training_pairs() -> None:
    first, again, other = load(seed=1), load(seed=1), load(seed=2)
    assert first.train_noisy_a.equal(again.train_noisy_a) and first.train_noisy_b.equal(again.train_noisy_b)
    assert not first.train_noisy_a.equal(other.train_noisy_a)


def test_the_validation_images_depend_neither_on_train_size_nor_on_the_seed() -> None:
    first, other = load(), load(train_size=10, seed=7)
    assert first.validation_noisy.equal(other.validation_noisy)
    assert first.validation_clean.equal(other.validation_clean)


@pytest.mark.parametrize("noise", ["gaussian:sigma=5", "poisson:peak=30", "impulse:p=0.1"])
def test_the_noise_is_the_one_that_was_asked_for(noise: str) -> None:
    pairs = load(noise=noise)
    assert pairs.noise == noise
    assert not pairs.validation_noisy.equal(pairs.validation_clean)


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    load()
    assert torch.get_rng_state().equal(before)


def test_a_data_folder_may_be_a_string(mid_gray: Path) -> None:
    assert len(load_pairs(str(mid_gray), train_size=3, validation_size=1).train_noisy_a) == 3


@pytest.mark.parametrize("name", ["train_size", "validation_size"])
@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_a_size_that_makes_no_sense_is_refused(name: str, size: int) -> None:
    with pytest.raises(ArgumentError, match=f"{name} is {size}, but an integer of at least 1 is expected"):
        load_pairs(**{name: size})  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 0.5, True, None])
def test_a_seed_that_makes_no_sense_is_refused(seed: int) -> None:
    with pytest.raises(ArgumentError, match=f"seed is {seed}, but an integer of at least 0 is expected"):
        load_pairs(seed=seed)


def test_an_unknown_noise_is_refused_before_the_data_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="noise 'fog' has no known model"):
        load_pairs(tmp_path / "nowhere", noise="fog")


def test_missing_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_pairs(tmp_path / "nowhere")


def test_the_repr_of_a_pair_set_shows_no_tensor() -> None:
    assert repr(pair_set()) == "PairSet(source='a test', noise='none', notices=())"


def test_a_pair_set_of_floats_is_refused() -> None:
    with pytest.raises(DtypeError, match="train_noisy_b has dtype torch.float32, but torch.uint8 is expected"):
        pair_set(b=ONE.float())


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 1, 4, 4), (0, 3, 4, 4)])
def test_a_pair_set_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="validation_noisy has shape .*, but .*, not empty, is expected"):
        pair_set(validation_noisy=torch.zeros(shape, dtype=torch.uint8))


def test_a_pair_set_with_halves_of_different_shapes_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"train_noisy_a has shape \(2, 3, 4, 4\) and train_noisy_b \(1, 3, 4, 4\)"):
        pair_set(a=torch.cat([ONE, ONE]))
